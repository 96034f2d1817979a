//! Source lines in panic messages: which `Location`s of the running program have to say another line.
//!
//! Takes moved lines and finds each `Location` through the live code that refers to it. One that does not hold the old line
//! is left alone: somebody else moved it, or it is not what it seems.

use relive_process::memory::Memory;
use relive_wire::LiveAddr;

use crate::Error;
use crate::diff::LocationMove;
use crate::diff::print::LOCATION_LINE;
use crate::diff::{Live, Running};
use crate::swap::Moved;

/// The writes that make the running program's lines true.
///
/// # Errors
/// If the process cannot be read.
pub(super) fn moved(running: &Running, moves: &[LocationMove], memory: &Memory) -> Result<Vec<Moved>, Error> {
    let mut found: Vec<Moved> = Vec::new();
    for one in moves {
        let Ok(Some(Live::Function(function))) = running.resolve(one.function, &one.text) else { continue };
        for body in &function.bodies {
            let field = body.addr.plus(one.field.0);
            let mut bytes = [0; 4];
            memory.read(field, &mut bytes)?;
            // The field holds S + A - P; the Location begins at S.
            let relative = i64::from(i32::from_le_bytes(bytes));
            let start = LiveAddr(field.0.wrapping_add_signed(relative).wrapping_add_signed(-one.field.1));
            let addr = start.plus(LOCATION_LINE);
            let mut words = [0; 8];
            if memory.read_some(addr, &mut words)? < words.len() {
                continue;
            }
            let word = |at: usize| u32::from_le_bytes([words[at], words[at + 1], words[at + 2], words[at + 3]]);
            if (word(0), word(4)) == one.line.0 {
                found.push(Moved { addr, new: one.line.1 });
            }
        }
    }
    found.sort_by_key(|moved| moved.addr);
    found.dedup();
    Ok(found)
}
