//! Holds no code: the clients are in `tests/` and `scripts/`.
