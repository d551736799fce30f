//! The program under attack and beside slow clients, each in a process of its own: what they cost it, and whether anybody
//! else notices. Prints figures; holds those to their bars that do not depend on how fast the machine is.
//!
//! In short as they stand. `COUPLET_HEAVY=1` makes it the full length, and `COUPLET_BINARY=target/release/couplet` makes
//! it the program that people run. `COUPLET_ATTACK=ping` leaves of the attacks over HTTP/2 those whose name has that.

mod floods;
mod slow;
mod upstream;
mod bystander;
mod figures;
mod http2;

/// Whether the full length was asked for.
pub(crate) fn heavy() -> bool {
    std::env::var_os("COUPLET_HEAVY").is_some()
}

/// Says something that is read also where the test passes.
pub(crate) fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{line}");
}
