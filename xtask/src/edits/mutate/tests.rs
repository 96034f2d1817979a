//! Each kind on a snippet, and the same edits for the same seed.

use super::*;
