//! Recognising that somebody reads one file after the other: pure bookkeeping.

/// Readers that are told apart.
const STREAMS: usize = 8;

/// How far ahead of those who walk a tree to be, in files.
///
/// The numbers of files count in the order of a walk, so a walk is a sequence
/// of rising numbers. Several walks at once are told apart by where they are.
#[derive(Clone, Debug)]
pub struct Sweeps {
    /// The one that moved last comes first.
    streams: Vec<Stream>,
    /// Files fetched ahead at first.
    first: u64,
    /// Most files fetched ahead.
    most: u64,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    /// The file read last.
    at: u64,
    /// Up to where has been asked for ahead.
    fetched: u64,
    window: u64,
}

impl Sweeps {
    /// Watches for walks, to be `first` files ahead of each at first and `most`
    /// in the end; the number doubles in between.
    pub fn new(first: u64, most: u64) -> Self {
        Sweeps {
            streams: Vec::new(),
            first,
            most,
        }
    }

    /// Notes that file number `file` begins to be read; `missed` when it had to
    /// be fetched. Gives the numbers of the files to fetch ahead.
    pub fn note(&mut self, file: u64, missed: bool) -> std::ops::Range<u64> {
        let near = |stream: &Stream| {
            let reach = stream.at + 2 * stream.window.max(self.first);
            (stream.at..=reach.max(stream.fetched)).contains(&file)
        };
        let Some(known) = self.streams.iter().position(near) else {
            // A single file, as far as we know: nothing is spent on it.
            if missed {
                self.streams.insert(
                    0,
                    Stream {
                        at: file,
                        fetched: file + 1,
                        window: 0,
                    },
                );
                self.streams.truncate(STREAMS);
            }
            return 0..0;
        };
        let mut stream = self.streams.remove(known);
        let again = stream.at == file;
        stream.at = file;
        stream.fetched = stream.fetched.max(file + 1);
        let mut ahead = 0..0;
        // Half a window in hand is enough to go on with.
        let wanting = stream.fetched - (file + 1) <= stream.window / 2;
        let worth = missed || stream.window > 0;
        if wanting && worth && !again {
            stream.window = (stream.window * 2).clamp(self.first, self.most);
            let end = file + 1 + stream.window;
            ahead = stream.fetched..end.max(stream.fetched);
            stream.fetched = ahead.end;
        }
        self.streams.insert(0, stream);
        ahead
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOST: u64 = 64;

    #[test]
    fn a_walk_is_soon_the_largest_window_behind() {
        let mut sweeps = Sweeps::new(4, MOST);
        let mut fetched = 0;
        for file in 10..500 {
            let ahead = sweeps.note(file, file >= fetched);
            fetched = fetched.max(ahead.end);
        }
        assert!(fetched > 500 + MOST / 2, "{fetched}");
    }

    #[test]
    fn two_walks_at_once_are_told_apart() {
        let mut sweeps = Sweeps::new(4, MOST);
        let (mut one, mut two) = (0, 0);
        for step in 0..100 {
            one = one.max(sweeps.note(step, true).end);
            two = two.max(sweeps.note(100_000 + step, true).end);
        }
        assert!(one > 100 && one < 1000 && two > 100_100, "{one} {two}");
    }

    #[test]
    fn random_opens_fetch_nothing_ahead() {
        let mut sweeps = Sweeps::new(4, MOST);
        for n in 1..200u64 {
            let ahead = sweeps.note((n * 7_919_000_017) % 1_000_000_007, true);
            assert!(ahead.is_empty());
        }
    }

    proptest! {
        #[test]
        fn nothing_is_fetched_ahead_twice(skips in proptest::collection::vec(0u64..6, 1..200)) {
            let mut sweeps = Sweeps::new(4, MOST);
            let (mut file, mut fetched) = (5, 0);
            for skip in skips {
                file += skip;
                let ahead = sweeps.note(file, file >= fetched);
                prop_assert!(ahead.is_empty() || ahead.start >= fetched);
                prop_assert!(ahead.end <= file + 1 + MOST);
                fetched = fetched.max(ahead.end);
            }
        }
    }
}
