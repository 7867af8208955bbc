//! Familiarity: whether the current session repeats earlier ones.

/// Fraction of the current session that is known from earlier ones, 0..=1.
///
/// It decides between the predictors: in a session that repeats known opens, a file
/// never opened before will hardly be opened now, however near it is; in a new kind
/// of session, the model says little about the remaining files.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Familiarity {
    value: f64,
    /// Whether the last file was unknown.
    broken: bool,
}

/// Initial familiarity of a session, before any evidence.
const AT_FIRST: f64 = 0.7;
/// Weight of each known file. One in five: four in a row make it more likely than
/// not.
const KNOWN: f64 = 0.2;
/// Factor for each unknown file. Any session may open a new file; a repeated
/// program opens few, so two in a row indicate another program.
const UNKNOWN: f64 = 0.6;
const UNKNOWN_AGAIN: f64 = 0.3;

impl Familiarity {
    /// Creates the state at the start of a session.
    pub(super) fn new(learned: bool) -> Self {
        Familiarity {
            value: if learned { AT_FIRST } else { 0.0 },
            broken: false,
        }
    }

    /// Adopts a foreign profile during a session: raises the familiarity to at
    /// least the initial one times `trust`, 0..=1.
    pub(super) fn told(&mut self, trust: f64) {
        self.value = self.value.max(AT_FIRST * trust);
    }

    /// Records the first open of a file, and whether an earlier session knew it.
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
