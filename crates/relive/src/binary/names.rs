//! Linkage names made readable, and reduced to what stays the same when a neighbour is inserted.
//!
//! Takes the name of a symbol, legacy (`_ZN..17h<hash>E`) or v0 (`_R..`); gives text. A name that is neither is given
//! back as it is: such symbols are C functions or were named by the user.

use super::types::erase;

/// The path of a symbol, without hash: `app::work::build::{closure#0}`, `<app::Circle as app::Shape>::area`.
pub fn readable(linkage_name: &str) -> String {
    let name = without_suffix(linkage_name);
    match rustc_demangle::try_demangle(name) {
        // Legacy names have double braces where v0 names and debug information have single ones.
        Ok(demangled) => format!("{demangled:#}").replace("{{", "{").replace("}}", "}"),
        Err(_) => linkage_name.to_string(),
    }
}

/// Whether the compiler made the name up from a path, so that only the program's own Rust code knows it.
pub fn is_mangled(linkage_name: &str) -> bool {
    rustc_demangle::try_demangle(without_suffix(linkage_name)).is_ok()
}

/// The same for an old and a new symbol that differ only in hashes, crate disambiguators and the numbers of closures
/// and impls.
pub fn path_key(linkage_name: &str) -> String {
    erase(&readable(linkage_name))
}

/// LLVM tells copies of internal functions apart by `.llvm.<number>`; the demangler does not know that in all forms.
fn without_suffix(name: &str) -> &str {
    name.split_once(".llvm.").map_or(name, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::{path_key, readable};

    #[test]
    fn legacy_names_lose_their_hash() {
        assert_eq!(readable("_ZN3app4work5build17hb2b5549feca52888E"), "app::work::build");
        assert_eq!(
            readable("_ZN42_$LT$app..Circle$u20$as$u20$app..Shape$GT$4area17h0123456789abcdefE"),
            "<app::Circle as app::Shape>::area"
        );
        let closure = "_ZN3app4work28_$u7b$$u7b$closure$u7d$$u7d$17hb2b5549feca52888E";
        assert_eq!(readable(closure), "app::work::{closure}");
    }

    #[test]
    fn v0_names_lose_disambiguators_and_numbers() {
        let first = path_key("_RNCNvCs1234_3app5builds_0B3_");
        let second = path_key("_RNCNvCs5678_3app5builds0_0B3_");
        assert_eq!(first, "app::build::{closure}");
        assert_eq!(first, second);
    }

    #[test]
    fn other_names_stay() {
        assert_eq!(readable("main"), "main");
        assert_eq!(path_key("qsort"), "qsort");
        assert_eq!(path_key(""), "");
    }

    #[test]
    fn copies_made_by_llvm_are_the_same_function() {
        assert_eq!(
            path_key("_ZN3app4work5build17hb2b5549feca52888E.llvm.1234"),
            path_key("_ZN3app4work5build17h0000000000000000E")
        );
    }
}
