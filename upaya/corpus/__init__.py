"""Text and questions: the authored corpus, the two scripts, typed answers, and the questions made from them."""
