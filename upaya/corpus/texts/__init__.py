"""Whole texts, such as a canon's, as passages that know their printed lines, and the importers that make them."""
