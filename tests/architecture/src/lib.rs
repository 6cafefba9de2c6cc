//! Holds no code: the rules are in `rules/`.
