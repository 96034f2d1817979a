//! Rule `thread-in-the-way`: a thread stayed where the switch has to write.

use super::rule::{Reason, Rule};
use super::{DeltaFacts, Item};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "thread-in-the-way",
    title: "A thread did not leave the place where the switch has to write",
    what: "A changed function begins with a loop, so that its first instructions are run again and again, and a thread did \
           not leave the function for as long as the switch was tried. Or a thread could not be stopped at all.",
    why: "The first bytes of the old function become a jump to the new one. A thread that is inside the loop would come back \
          to them and jump into new code with the old one's registers and stack.",
    example: "```rust\nfn wait() { loop { std::hint::spin_loop(); } }\n```\n\n\
              > thread `worker` (4711) is inside the first instructions of `app::wait`, or in its loop there",
    fix: "Save again when the thread has left the function, give the change to a function that the loop calls, or restart \
          with the edit.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    if let Some(what) = &delta.in_the_way {
        let help = "Save again when it has gone on; the same change in a function that the loop calls can be applied.";
        reasons.push(RULE.refuse(&Item::named(function(what)), what.clone(), help));
    }
}

/// The function that the sentence names; else it is about the program.
fn function(what: &str) -> &str {
    let named = what.split_once("instructions of `").and_then(|(_, rest)| rest.split_once('`'));
    named.map_or("the running program", |(name, _)| name)
}
