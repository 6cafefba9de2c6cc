//! Tools that people run in a container with the socket. `ci` replays what CI systems call, from the scripts in `ci/`;
//! `builds` are those of buildx and of Docker in a container, as far as there can be some; `idioms` are people's habits;
//! `recipes` follows the pages in docs/recipes; `image` is what they run in.
#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod builds;
mod ci;
mod idioms;
mod image;
mod recipes;
