//! Holds no code: the cases are in `hosts/`.
