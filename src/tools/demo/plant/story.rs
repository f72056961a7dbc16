//! What happens each day at a known time, so that there is something to look at: a cloud, a kettle, and the
//! grid fails. Pure functions of the hour.

/// What happens besides what [chance](super::day) brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Story {
    /// Nothing.
    None,
    /// The same each day.
    EachDay,
}

impl Story {
    /// How much of the sun is left, 0 to 1.
    pub(crate) fn sun(self, hour: f64) -> f64 {
        if self.is(hour, CLOUD) { 0.2 } else { 1.0 }
    }

    /// What the kettle draws, in W.
    pub(crate) fn kettle(self, hour: f64) -> f64 {
        if self.is(hour, KETTLE) { 2000.0 } else { 0.0 }
    }

    /// Whether the grid has failed.
    pub(crate) fn grid_fails(self, hour: f64) -> bool {
        self.is(hour, FAILURE)
    }

    /// What goes on at this hour, in a word or two; empty where nothing does.
    pub(crate) fn word(self, hour: f64) -> &'static str {
        if self.grid_fails(hour) {
            "grid failure"
        } else if self.is(hour, CLOUD) {
            "a cloud"
        } else if self.is(hour, KETTLE) {
            "a kettle"
        } else {
            ""
        }
    }

    fn is(self, hour: f64, (from, to): (f64, f64)) -> bool {
        self == Story::EachDay && (from..to).contains(&hour)
    }
}

/// From and to, in hours of the day.
const CLOUD: (f64, f64) = (10.5, 11.5);
const KETTLE: (f64, f64) = (12.5, 12.9);
const FAILURE: (f64, f64) = (15.0, 16.5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_has_its_hour() {
        let words: Vec<&str> = (0..240)
            .map(|tenth| Story::EachDay.word(f64::from(tenth) / 10.0))
            .filter(|word| !word.is_empty())
            .collect();
        let mut each = words.clone();
        each.dedup();
        assert_eq!(each, ["a cloud", "a kettle", "grid failure"]);
        assert_eq!(words.len(), 10 + 4 + 15);
        assert_eq!(Story::None.word(15.5), "");
        assert!(Story::EachDay.sun(11.0) < Story::EachDay.sun(13.0));
    }
}
