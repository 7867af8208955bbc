//! Whether what happens now has happened before.

/// How much of the present session is known from earlier ones, 0..=1.
///
/// It decides who is believed: in a session that repeats what is known, a file
/// never opened before will hardly be opened now, however near it lies; in one
/// that is new, what the model knows says little about the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Familiarity {
    value: f64,
    /// The last file was not known.
    broken: bool,
}

/// A session is believed to repeat an earlier one, by as much, until it shows.
const AT_FIRST: f64 = 0.7;
/// Weight of each file that was known. One in five: four of them in a row
/// make it more likely than not.
const KNOWN: f64 = 0.2;
/// What is left when a file was not known. One may be new in any session; a
/// program that is repeated opens few, so two in a row tell that it is another.
const UNKNOWN: f64 = 0.6;
const UNKNOWN_AGAIN: f64 = 0.3;

impl Familiarity {
    /// At the beginning of a session.
    pub(super) fn new(learned: bool) -> Self {
        Familiarity {
            value: if learned { AT_FIRST } else { 0.0 },
            broken: false,
        }
    }

    /// What somebody else knows is taken over in the middle of a session, to be
    /// believed so far, 0..=1.
    pub(super) fn told(&mut self, trust: f64) {
        self.value = self.value.max(AT_FIRST * trust);
    }

    /// Notes the first open of a file, and whether an earlier session knew it.
    pub(super) fn note(&mut self, known: bool) {
        match (known, self.broken) {
            (true, _) => self.value += (1.0 - self.value) * KNOWN,
            (false, false) => self.value *= UNKNOWN,
            (false, true) => self.value *= UNKNOWN_AGAIN,
        }
        self.broken = !known;
    }

    pub(super) fn value(self) -> f64 {
        self.value
    }
}
