//! Whatever dies, whenever: hosts, clients and the daemon are killed with SIGKILL at random points, in any order and in
//! the middle of any call. Afterwards nothing is there that belongs to a host that is gone, and the host that lives is
//! complete. `calls` is what the clients do meanwhile, `keeper` the host that lives, `records` what the daemon
//! remembers, `victim` the hosts that die.
//!
//! `DROSTE_TEST_CHAOS_SEED` repeats the choices (not the moments: they are the machine's), `DROSTE_TEST_CHAOS_ROUNDS`
//! makes it longer.

mod calls;
mod keeper;
mod records;
mod victim;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use droste_test_support::{Census, Engine, image};
use fastrand::Rng;

use calls::{Kit, Place};
use keeper::Keeper;
use victim::Victim;

/// Rounds where nobody says otherwise.
const ROUNDS: u64 = 30;

/// Clients at a time.
const CLIENTS: usize = 4;

/// What is done to hosts and to the daemon while the clients are at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    /// The first process of a victim is killed.
    Init,
    /// The first process of the host on a victim is killed.
    InnerInit,
    /// The first process of the host that lives is killed; its restart policy brings it back.
    KeeperInit,
    /// The daemon is killed.
    Daemon,
    /// A victim is removed by force.
    Remove,
    /// A victim is stopped.
    Stop,
    /// A victim is restarted.
    Restart,
}

const BLOWS: [Blow; 10] = [Blow::Init, Blow::Init, Blow::InnerInit, Blow::KeeperInit, Blow::Daemon, Blow::Daemon, Blow::Daemon, Blow::Remove, Blow::Stop, Blow::Restart];

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text}")))
}

/// Waits until nothing is missing, and says what is if that takes too long. Not an expectation of speed.
fn at_last(mut missing: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(what) = missing() {
        assert!(Instant::now() < deadline, "it does not come: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn pause(rng: &mut Rng, most: u64) {
    std::thread::sleep(Duration::from_millis(rng.u64(0..=most)));
}

#[test]
fn whatever_dies_whenever_leaves_nothing_and_harms_nobody() {
    let seed = number("DROSTE_TEST_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..));
    let rounds = number("DROSTE_TEST_CHAOS_ROUNDS").unwrap_or(ROUNDS);
    println!("DROSTE_TEST_CHAOS_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let parent = format!("droste-chaos-{}", std::process::id());
    let e = Engine::start_droste(&["--cgroup-parent", &parent]);
    image::load_base(&e);
    let kit = Kit::new(&e);
    let keeper = Keeper::new(&e);
    // The first of a kind may leave what is kept for all later ones.
    round(&e, &keeper, &kit, &mut rng);
    e.kill_daemon();
    let known = records::all(&e);
    e.power_on();
    keeper.is_complete();
    let before = e.at_rest().with_open_files(32);
    for turn in 1..=rounds {
        println!("round {turn} of {rounds}");
        round(&e, &keeper, &kit, &mut rng);
        settles(&e, &keeper, &before);
    }
    e.kill_daemon();
    let now = records::all(&e);
    let differences: Vec<_> = now.symmetric_difference(&known).collect();
    assert!(differences.is_empty(), "the daemon remembers what it remembered before, but for {differences:?}");
    e.power_on();
    keeper.is_complete();
    settles(&e, &keeper, &before);
}

/// Victims are made, clients work on them and on the hosts that live, much is killed; then what is left of the victims
/// is removed, and what the clients made on the hosts that live.
fn round(e: &Engine, keeper: &Keeper<'_>, kit: &Kit, rng: &mut Rng) {
    let victims: Vec<Victim> = (0..rng.usize(1..=2)).map(|_| Victim::new(e, rng)).collect();
    let mut places: Vec<Place> = victims.iter().flat_map(Victim::places).collect();
    places.extend([Place::new(e, "m"), Place::new(&keeper.host(), "k")]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let mut rng = rng.fork();
            let (places, over) = (&places, &over);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    calls::one(kit, &places[rng.usize(..places.len())], &mut rng);
                }
            });
        }
        let alive = Alive(&over);
        pause(rng, 400);
        blows(e, keeper, &victims, rng);
        pause(rng, 100);
        drop(alive);
    });
    for victim in &victims {
        victim.remove(e);
    }
    keeper.is_complete();
    clean(e, keeper);
}

fn clean(e: &Engine, keeper: &Keeper<'_>) {
    calls::clean(e, "m");
    calls::clean(&keeper.host(), "k");
}

/// Waits until all is as it was. What clients began before they were killed may come to its end meanwhile.
fn settles(e: &Engine, keeper: &Keeper<'_>, before: &Census) {
    at_last(|| {
        clean(e, keeper);
        let differences = e.differences(before);
        if differences.is_empty() { Ok(()) } else { Err(format!("what was before:\n{}", differences.join("\n"))) }
    });
}

/// Clients end with this, also where a test ends at what it did not expect.
struct Alive<'a>(&'a AtomicBool);

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Some blows; the daemon may be away for the next one, and is back at the end.
fn blows(e: &Engine, keeper: &Keeper<'_>, victims: &[Victim], rng: &mut Rng) {
    let mut away = false;
    for _ in 0..rng.usize(1..=4) {
        let blow = *rng.choice(&BLOWS).unwrap();
        let victim = &victims[rng.usize(..victims.len())];
        let asks_daemon = !matches!(blow, Blow::Init | Blow::InnerInit | Blow::KeeperInit);
        if away && (asks_daemon || rng.bool()) {
            e.power_on();
            away = false;
        }
        println!("  {blow:?}");
        match blow {
            Blow::Init => victim.kill(),
            Blow::InnerInit => victim.kill_inner(),
            Blow::KeeperInit => keeper.kill(),
            Blow::Daemon => {
                e.kill_daemon();
                away = true;
            }
            Blow::Remove => victim.ask(e, "DELETE", "?force=1&v=1"),
            Blow::Stop => victim.ask(e, "POST", "/stop?t=0"),
            Blow::Restart => victim.ask(e, "POST", "/restart?t=0"),
        }
        pause(rng, 80);
    }
    if away {
        e.power_on();
    }
}
