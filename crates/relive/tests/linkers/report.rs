//! What was compared, by kind, and whether that is enough.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use relive::arch::RelocKind;

/// Counts of relocations.
#[derive(Default)]
pub(crate) struct Report {
    /// Equal, by operand and form; the second number are those in debug information.
    equal: BTreeMap<String, (u64, u64)>,
    /// Equal after both rewrote the instruction.
    pub(crate) relaxed: u64,
    /// Explained differences, by the explanation.
    explained: BTreeMap<&'static str, u64>,
    /// Everything else, told.
    unexplained: Vec<String>,
    pub(crate) objects: u64,
    /// Inputs that there are not.
    pub(crate) missing: Vec<String>,
}

/// How many relocations have to be compared.
#[derive(Clone, Copy)]
pub(crate) struct Least {
    /// In all.
    pub(crate) all: u64,
    /// In code and data.
    pub(crate) loaded: u64,
}

impl Report {
    /// Nothing compared yet; `missing` are inputs that there are not.
    pub(crate) fn new(missing: Vec<String>) -> Report {
        Report { missing, ..Report::default() }
    }

    pub(crate) fn equal(&mut self, kind: RelocKind, debug: bool) {
        let name = match kind {
            RelocKind::Of(operand, form, field) => format!("{operand:?} {form:?} {field:?}"),
            RelocKind::Unknown(raw) => format!("unknown {raw}"),
        };
        let count = self.equal.entry(name).or_default();
        if debug { count.1 += 1 } else { count.0 += 1 }
    }

    pub(crate) fn explained(&mut self, why: &'static str, count: u64) {
        if count > 0 {
            *self.explained.entry(why).or_default() += count;
        }
    }

    pub(crate) fn unexplained(&mut self, what: String) {
        self.unexplained.push(what);
    }

    /// Prints the counts.
    ///
    /// # Errors
    /// If something is unexplained, or fewer relocations than `least` were compared.
    pub(crate) fn finish(&self, name: &str, least: Least) -> Result<(), String> {
        let (loaded, debug) = self.equal.values().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
        let mut text = format!(
            "{name}: {} objects, {} relocations equal ({loaded} in code and data, {debug} in debug information), \
             {} of them rewritten by both, {} unexplained\n",
            self.objects,
            loaded + debug,
            self.relaxed,
            self.unexplained.len()
        );
        for (kind, (loaded, debug)) in &self.equal {
            let _ = writeln!(text, "  {loaded:>9} {debug:>9}  {kind}");
        }
        for (why, count) in &self.explained {
            let _ = writeln!(text, "  {count:>9}  explained: {why}");
        }
        for what in &self.missing {
            let _ = writeln!(text, "  missing: {what}");
        }
        eprint!("{text}");
        for what in self.unexplained.iter().take(40) {
            eprintln!("  {what}");
        }
        if !self.unexplained.is_empty() {
            return Err(format!("{} unexplained differences", self.unexplained.len()));
        }
        if loaded + debug < least.all || loaded < least.loaded {
            return Err(format!(
                "only {} relocations compared, {loaded} of them in code and data; {} and {} are wanted",
                loaded + debug,
                least.all,
                least.loaded
            ));
        }
        Ok(())
    }
}
