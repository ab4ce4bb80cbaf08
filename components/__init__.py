"""Reward components of your own: one function in a module here, named by its dotted path in params/regimes.yaml.

    # components/mine.py
    from upaya.corpus.answers import Completion
    from upaya.corpus.questions import Question

    def brief(completion: Completion, question: Question) -> float:
        return 1.0 if len(completion.text) < 100 else 0.0

    # params/regimes.yaml, in a regime's components:
    components.mine.brief: {weight: 0.1}

A component is a pure function to [0, 1]. The training stages depend on this folder, so that a changed component
retrains what was trained with it.
"""
