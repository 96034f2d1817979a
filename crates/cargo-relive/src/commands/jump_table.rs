//! `jump-table`: a patch for a program with the subsecond runtime, as the runtime's own table on stdout.

use relive::jump_table;

use super::{fail, print};
use crate::exit::Exit;
use crate::flags::JumpTable;
use crate::terminal::write_line;

/// Makes the library, and prints the table as one line of JSON.
#[must_use]
pub fn run(flags: &JumpTable) -> Exit {
    let made = match jump_table::make(&flags.binary, &flags.objects, &flags.library) {
        Ok(made) => made,
        Err(error) => return fail(&error),
    };
    for name in &made.new_variables {
        write_line(&format!("relive: `{name}` is new: the library begins with its initial value"));
    }
    for name in &made.ambiguous {
        write_line(&format!("relive: `{name}` is not replaced: the program has several functions of that name"));
    }
    match serde_json::to_vec(&made.table) {
        Ok(mut line) => {
            line.push(b'\n');
            print(&line)
        }
        Err(error) => fail(&relive::Error::Fatal(format!("the table cannot be written as JSON: {error}"))),
    }
}
