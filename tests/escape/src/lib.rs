//! Holds no code: the attacks are in `attacks/`, and what they are in `list.md`.
