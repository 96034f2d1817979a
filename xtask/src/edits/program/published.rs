//! Crates as they were published, with values of theirs in the state.

use fixedbitset::FixedBitSet;
use heck::{ToKebabCase, ToLowerCamelCase, ToShoutySnakeCase, ToSnakeCase, ToTitleCase, ToTrainCase};
use semver::{BuildMetadata, Prerelease, Version, VersionReq};
use slab::Slab;

use crate::Part;

pub const PARTS: [fn() -> Box<dyn Part>; 5] = [
    || Box::new(Versions { releases: Vec::new(), requests: Vec::new() }),
    || Box::new(Slots { slots: Slab::new(), members: FixedBitSet::with_capacity(40) }),
    || Box::new(Texts { last_text: String::new() }),
    || Box::new(Times { total_time: std::time::Duration::ZERO }),
    || Box::new(Wrapped { lines: Vec::new() }),
];

/// Lives in the state.
struct Versions {
    releases: Vec<Version>,
    requests: Vec<VersionReq>,
}

/// Lives in the state.
struct Slots {
    slots: Slab<Box<(u64, String)>>,
    members: FixedBitSet,
}

/// Lives in the state.
struct Texts {
    last_text: String,
}

/// Lives in the state.
struct Times {
    total_time: std::time::Duration,
}

/// Lives in the state.
struct Wrapped {
    lines: Vec<String>,
}

impl Part for Versions {
    fn input(&mut self, number: u64, text: &str) -> String {
        let word: String = text.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
        let (major, minor, patch) = (number % 4, number % 7, number % 11);
        match number % 3 {
            0 => {
                let parsed = Version::parse(&format!("{major}.{minor}.{patch}-{word}.{minor}+{word}"));
                let mut version = parsed.unwrap_or_else(|_| Version::new(major, minor, patch));
                if number % 2 == 0 {
                    version.pre = Prerelease::EMPTY;
                    version.build = BuildMetadata::new(&word).unwrap_or_default();
                }
                self.releases.push(version);
                self.releases.sort();
                self.releases.truncate(12);
            }
            1 => {
                let text = [">=1.2.3, <1.8.0", "^0.3", "~2.1", "=1.2.3-a.1", "*", "1.x", ">>2", "<3.0.0-beta"];
                match VersionReq::parse(text[number as usize / 3 % text.len()]) {
                    Ok(request) => self.requests.push(request),
                    Err(why) => return format!("error: {why}"),
                }
                if self.requests.len() > 5 {
                    self.requests.remove(0);
                }
            }
            _ => {}
        }
        let matching = |request: &VersionReq| self.releases.iter().filter(|release| request.matches(release)).count();
        let counts: Vec<String> =
            self.requests.iter().map(|request| format!("{request}:{}", matching(request))).collect();
        let newest = self.releases.last().map(ToString::to_string).unwrap_or_default();
        format!("newest {newest} of {} matching {}", self.releases.len(), counts.join(" "))
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl Part for Slots {
    fn input(&mut self, number: u64, text: &str) -> String {
        let place = number as usize % 40;
        match number % 5 {
            0 | 1 => {
                let key = self.slots.insert(Box::new((number, text.to_owned())));
                self.members.grow(key + 1);
                self.members.insert(key);
            }
            2 => drop(self.slots.try_remove(place % 12)),
            3 => self.members.toggle_range(place / 2..place.max(1)),
            _ => self.members.union_with(&(place..40).step_by(3).collect()),
        }
        if self.slots.len() > 20 {
            self.slots.retain(|key, value| key % 2 == 0 && value.1.len() > 3);
            self.slots.shrink_to_fit();
        }
        let sum: u64 = self.slots.iter().map(|(key, value)| key as u64 * (value.0 % 100)).sum();
        let ones: Vec<usize> = self.members.ones().collect();
        let capacity = self.slots.vacant_key();
        format!("slots {} sum {sum} next {capacity} ones {ones:?} {}", self.slots.len(), self.members.count_ones(3..20))
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl Part for Texts {
    fn input(&mut self, number: u64, text: &str) -> String {
        let before = std::mem::replace(&mut self.last_text, text.to_owned());
        match number % 6 {
            0 => format!("{} {} {}", text.to_snake_case(), text.to_lower_camel_case(), text.to_train_case()),
            1 => format!("{} {} {}", text.to_kebab_case(), text.to_title_case(), text.to_shouty_snake_case()),
            2 => {
                let (jaro, winkler) = (strsim::jaro(&before, text), strsim::jaro_winkler(&before, text));
                format!("{jaro:.4} {winkler:.4} {:.4}", strsim::sorensen_dice(&before, text))
            }
            3 => {
                let (plain, damerau) = (strsim::levenshtein(&before, text), strsim::damerau_levenshtein(&before, text));
                format!(
                    "{plain} {damerau} {:?} {}",
                    strsim::hamming(&before, text),
                    strsim::osa_distance(&before, text)
                )
            }
            4 => {
                let words = shlex::split(text);
                let quoted = shlex::try_join(before.split(' ')).unwrap_or_else(|why| why.to_string());
                format!("{words:?} {quoted}")
            }
            _ => {
                let encoded =
                    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
                let decoded = percent_encoding::percent_decode_str(&encoded).decode_utf8_lossy().into_owned();
                format!("{encoded} {}", decoded == text)
            }
        }
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl Part for Times {
    fn input(&mut self, number: u64, text: &str) -> String {
        let units = ["ms", "s", "min", "h", "days", "weeks", "us", "parsecs"];
        let unit = units[number as usize / 7 % units.len()];
        let stamp = std::time::UNIX_EPOCH + std::time::Duration::from_secs(number * 1_000_003 % 4_000_000_000);
        let stamp_text = humantime::format_rfc3339(stamp).to_string();
        let back = humantime::parse_rfc3339(&stamp_text).is_ok_and(|back| back == stamp);
        let added = humantime::parse_duration(&format!("{}{unit} {}s", number % 50, text.len()));
        match added {
            Ok(added) => {
                self.total_time =
                    std::time::Duration::from_millis((self.total_time + added).as_millis() as u64 % 99_999_999);
                format!("{stamp_text} {back} {}", humantime::format_duration(self.total_time))
            }
            Err(why) => format!("{stamp_text} {back} {why}"),
        }
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl Part for Wrapped {
    fn input(&mut self, number: u64, text: &str) -> String {
        let width = 8 + number as usize % 20;
        let options = textwrap::Options::new(width).initial_indent("* ").subsequent_indent("  ");
        let options = options.break_words(number % 2 == 0);
        self.lines.extend(textwrap::wrap(text, options).into_iter().map(|line| line.into_owned()));
        if self.lines.len() > 12 {
            self.lines.drain(..6);
        }
        let all = self.lines.join("\n");
        match number % 4 {
            0 => textwrap::indent(&all, "> "),
            1 => textwrap::dedent(&all),
            2 => textwrap::unfill(&all).0,
            _ => textwrap::fill(&textwrap::refill(&all, width), width + 3),
        }
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}
