//! Similarity of the current session to earlier ones.

/// Fraction of the current session that is known from earlier ones, 0..=1.
///
/// It decides between the predictors: in a session that repeats known opens, a file
/// never opened before will hardly be opened now, however near it is; in a new kind
/// of session, the model says little about the remaining files.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct SessionSimilarity {
    value: f64,
    /// Whether the last file was unknown.
    was_unknown: bool,
}

/// Initial similarity of a session, before any evidence.
const INITIAL_SIMILARITY: f64 = 0.7;
/// Weight of each known file. One in five: four in a row make it more likely than
/// not.
const KNOWN_GAIN: f64 = 0.2;
/// Factor for each unknown file. Any session may open a new file; a repeated
/// program opens few, so two in a row indicate another program.
const UNKNOWN_FACTOR: f64 = 0.6;
const REPEATED_UNKNOWN_FACTOR: f64 = 0.3;

impl SessionSimilarity {
    /// Creates the state at the start of a session.
    pub(super) fn new(learned: bool) -> Self {
        SessionSimilarity {
            value: if learned { INITIAL_SIMILARITY } else { 0.0 },
            was_unknown: false,
        }
    }

    /// Adopts a foreign profile during a session: raises the similarity to at
    /// least the initial one times `trust`, 0..=1.
    pub(super) fn raise(&mut self, trust: f64) {
        self.value = self.value.max(INITIAL_SIMILARITY * trust);
    }

    /// Records the first open of a file, and whether an earlier session knew it.
    pub(super) fn record(&mut self, known: bool) {
        match (known, self.was_unknown) {
            (true, _) => self.value += (1.0 - self.value) * KNOWN_GAIN,
            (false, false) => self.value *= UNKNOWN_FACTOR,
            (false, true) => self.value *= REPEATED_UNKNOWN_FACTOR,
        }
        self.was_unknown = !known;
    }

    pub(super) fn value(self) -> f64 {
        self.value
    }
}
