//! A point in time, as it is stored.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Returns the time `ms` milliseconds later.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Returns how many milliseconds passed since `earlier`, or 0.
    pub const fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

impl FromStr for Timestamp {
    type Err = String;

    /// Reads `2026-01-31`, its first moment, or `2026-01-31T12:00:00Z`, with or without thousandths. Times are in UTC.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
            format!("`{shown}` is not a time like 2026-01-31 or 2026-01-31T12:00:00Z")
        };
        let (date, time) = text.split_once('T').map_or((text, None), |(date, time)| (date, Some(time)));
        let day_ms = days(date).and_then(|days| days.checked_mul(DAY_MS)).ok_or_else(wrong)?;
        let ms = time.map_or(Some(0), of_day).ok_or_else(wrong)?;
        Ok(Self(day_ms + ms))
    }
}

/// Reads digits, as many as are asked for, as a number of at most `max`.
fn number(text: &str, digits: usize, max: u64) -> Option<u64> {
    let is_number = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| is_number && *n <= max)
}

/// Returns the days from 1970-01-01 to a date (days from civil by Howard Hinnant's algorithm, public domain).
fn days(date: &str) -> Option<u64> {
    let mut parts = date.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let (year, month, day) = (number(year, 4, 9_999)?, number(month, 2, 12)?, number(day, 2, 31)?);
    if year < 1970 || month == 0 || day == 0 {
        return None;
    }
    let shifted_year = year - u64::from(month <= 2);
    let (era, year_of_era) = (shifted_year / 400, shifted_year % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * shifted + 2) / 5 + day - 1;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    // A day that the month does not have is one of the next.
    Timestamp(days * DAY_MS).to_string().starts_with(date).then_some(days)
}

/// Reads `12:00:00Z` or `12:00:00.000Z`.
fn of_day(time: &str) -> Option<u64> {
    let (time, thousandths) = match time.strip_suffix('Z')?.split_once('.') {
        Some((time, thousandths)) => (time, number(thousandths, 3, 999)?),
        None => (time.strip_suffix('Z')?, 0),
    };
    let mut parts = time.splitn(3, ':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    let (hour, minute, second) = (number(hour, 2, 23)?, number(minute, 2, 59)?, number(second, 2, 59)?);
    Some(((hour * 60 + minute) * 60 + second) * 1_000 + thousandths)
}

impl fmt::Display for Timestamp {
    /// Writes `2026-01-31T12:00:00.000Z` (civil date from days by Howard Hinnant's algorithm, public domain).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let z = days + 719_468;
        let (era, day_of_era) = (z / 146_097, z % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z", ms % 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_at_leap_days_and_ends_of_years() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_798_761_599_999, "2026-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp(ms).to_string(), text);
            assert_eq!(text.parse(), Ok(Timestamp(ms)));
        }
    }

    #[test]
    fn a_time_reads_as_a_day_or_to_the_second_and_nothing_else_does() {
        for (text, ms) in [
            ("1970-01-01", 0),
            ("2000-02-29", 951_782_400_000),
            ("2026-12-31T23:59:59Z", 1_798_761_599_000),
            ("2026-11-10", 1_794_268_800_000),
        ] {
            assert_eq!(text.parse(), Ok(Timestamp(ms)), "{text}");
        }
        for text in [
            "",
            "2026",
            "2026-1-1",
            "2026-02-29",
            "2026-04-31",
            "2026-13-01",
            "1969-12-31",
            "2026-01-01T",
            "2026-01-01T24:00:00Z",
            "2026-01-01T12:00:00",
            "2026-01-01T12:00:00ZZ",
            "2026-01-01T12:00:00.1Z",
            "2026-01-01T12:00:00+01:00",
            "+026-01-01",
            "2026-01-01 ",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }
}
