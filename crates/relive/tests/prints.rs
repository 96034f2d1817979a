//! What counts as the same constant: objects made by the real compiler from assembly that only differs in one place.

#[path = "common/build.rs"]
#[expect(dead_code, reason = "only the objects matter here")]
mod build;

use relive::binary::bytes::Bytes;
use relive::binary::object::{Object, SectionId};
use relive::diff::print::Printer;

/// The hash of function `f` in each of `states`.
fn prints(name: &str, states: &[String]) -> Vec<u128> {
    let text = |asm: &String| format!("std::arch::global_asm!(r#\"{asm}\"#, options(att_syntax));");
    let texts: Vec<_> = states.iter().map(text).collect();
    let states = build::build(name, &["--crate-type=rlib"], &texts);
    states
        .iter()
        .map(|state| state.objects.iter().find_map(|(_, path)| print_of_f(path)).expect("`f` is there"))
        .collect()
}

fn print_of_f(path: &std::path::Path) -> Option<u128> {
    let object = Object::parse(Bytes::new(std::fs::read(path).expect("it was just made"))).expect("an object");
    let section = object.sections.iter().position(|section| &*section.name == ".text.f")?;
    Some(Printer::new(&object).section(SectionId(section as u32)).own)
}

fn function(body: &str) -> String {
    format!(".section .text.f,\"ax\",@progbits\n.globl f\n.type f,@function\nf: {body}\nret\n.size f,.-f\n")
}

/// Constants that each lead to the next one, and the last one to `end`.
fn nested(levels: usize, end: u64) -> String {
    let head = |at: usize| format!(".section .data.rel.ro.n{at},\"aw\",@progbits\n.Ln{at}: .quad ");
    let chain: String = (0..levels).map(|at| format!("{}.Ln{}\n", head(at), at + 1)).collect();
    format!("{}{chain}{}{end}\n", function("lea .Ln0(%rip), %rax"), head(levels))
}

/// Code that compares with a byte of the second of three strings.
fn strings(instruction: &str, texts: [&str; 3]) -> String {
    let texts: String = texts.iter().map(|text| format!(".asciz \"{text}\"\n")).collect();
    format!("{}.section .rodata.str1.1,\"aMS\",@progbits,1\n.Lstrings:\n{texts}", function(instruction))
}

#[test]
fn constants_count_however_deep_they_are_nested() {
    let [deep, same, other] = [5, 5, 6].map(|end| nested(1000, end));
    let prints = prints("nested", &[deep, same, other]);
    assert_eq!(prints[0], prints[1]);
    assert_ne!(prints[0], prints[2]);
}

#[test]
fn the_string_meant_is_found_whatever_follows_in_the_instruction() {
    let loads = ["cmpb $7, .Lstrings+4(%rip)", "cmpl $777777, .Lstrings+4(%rip)", "movb .Lstrings+4(%rip), %al"];
    for (at, load) in loads.into_iter().enumerate() {
        let texts = [["abc", "def", "ghi"], ["abd", "def", "ghj"], ["abc", "deg", "ghi"]];
        let prints = prints(&format!("strings{at}"), &texts.map(|texts| strings(load, texts)));
        assert_eq!(prints[0], prints[1], "{load}: only its neighbours changed");
        assert_ne!(prints[0], prints[2], "{load}: it changed itself");
    }
}
