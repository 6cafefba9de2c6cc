//! Holds no code: the days are in `days/` (shell, Python, JavaScript) and `tests/` (Rust).
