//! Data in code, of objects of clang, in images as a linker writes it and as relive does.

use std::fmt::Write as _;

use relive::link::macho::ImageOffset;
use relive::link::macho::data_in_code::{of_file, read, rebase, write};

use crate::build::{MACHINES, link, section};

/// Switches that become tables of distances.
fn source() -> String {
    let mut source = String::from("long ext(long);\n");
    for number in 0..40 {
        let _ = write!(source, "long f{number}(long a) {{ switch (a) {{");
        for case in 0..8 + number {
            let _ = write!(source, " case {case}: return ext({}) + a * {case};", number * 100 + case * case);
        }
        let _ = writeln!(source, " }} return a; }}");
    }
    source
}

#[test]
fn tables_in_code_are_where_the_linker_says() {
    let mut tables = 0;
    for (machine, _) in MACHINES {
        let linked = link(machine, "switches", &source(), &["-x", "c", "-O1"]);
        let (object, image) =
            (object::File::parse(&*linked.object).unwrap(), object::File::parse(&*linked.image).unwrap());
        let (old, new) = (section(&object, "__text"), section(&image, "__text"));
        let moved = |addr: relive::binary::address::LinkAddr| {
            let inside = addr.0.checked_sub(old.0).filter(|inside| *inside < old.1.len() as u64)?;
            Some(ImageOffset((new.0 + inside).try_into().unwrap()))
        };
        let entries = read(of_file(&linked.object).unwrap()).unwrap();
        let placed = rebase(&entries, moved).unwrap();
        assert_eq!(placed.len(), entries.len(), "{machine}");
        assert_eq!(write(&placed), of_file(&linked.image).unwrap(), "{machine}");
        tables += entries.len();
    }
    assert!(tables >= 30, "{tables}");
}

#[test]
fn a_file_without_the_command_has_no_entries_and_a_damaged_one_is_refused() {
    let linked = link("x86_64", "no-switches", "int f(int a) { return a; }", &["-x", "c", "-O1"]);
    assert_eq!(of_file(&linked.object).map(<[u8]>::len), Ok(0));
    let linked = link("x86_64", "switches-cut", &source(), &["-x", "c", "-O1"]);
    let whole = of_file(&linked.object).unwrap();
    let end = whole.as_ptr().addr() - linked.object.as_ptr().addr() + whole.len();
    let why = of_file(&linked.object[..end - 1]).unwrap_err();
    assert!(why.0.contains("end beyond the file"), "{}", why.0);
}
