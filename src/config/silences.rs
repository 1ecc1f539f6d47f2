//! When a silence of a rules file holds: `every: Sun 02:00-04:00 Europe/Paris`, or once, `from` and `until`.
//!
//! Times of day are those of the clock on the wall in their zone. On the night on which clocks are set back, an hour comes
//! twice: a silence that begins in it begins with the first pass, one that ends in it ends with the second. On the night on
//! which they are set forward, an hour is missing: a time in it stands for the instant at which clocks jump.

use std::ops::Range;

use chrono::{DateTime, Datelike, Days, LocalResult, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Weekday};
use chrono_tz::{TZ_VARIANTS, Tz};

use super::nearest::nearest;
use super::rules::Silence;

/// One stretch, [from, until), epoch milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    pub from_ms: i64,
    pub until_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SilenceTime {
    Once(Stretch),
    Every(Recurrence),
}

/// The same hours on some days of every week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recurrence {
    /// From Monday; the days on which it begins.
    days: [bool; 7],
    /// Minutes after midnight. `until` is after `from`; above 24 h it is on the next day.
    from_minute: u32,
    until_minute: u32,
    zone: Tz,
}

/// What is wrong with a text, where in it, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SilenceError {
    /// Key that it is about: `every`, `from`, `until`; empty: the silence as a whole.
    pub key: &'static str,
    pub message: String,
    /// Bytes within the text.
    pub within: Range<usize>,
    pub help: String,
}

const EXAMPLE: &str = "write days, a time and a zone: `Sun 02:00-04:00 Europe/Paris`, `daily 22:00-06:00 UTC`";
const INSTANT: &str = "write an instant with its offset, such as `2026-11-24T02:00:00Z`";
const DAY_MINUTES: u32 = 24 * 60;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

impl SilenceTime {
    pub fn of(silence: &Silence) -> Result<Self, SilenceError> {
        let whole = |message: &str, help: &str| SilenceError {
            key: "",
            message: message.to_string(),
            within: 0..0,
            help: help.to_string(),
        };
        match (&silence.every, &silence.from, &silence.until) {
            (Some(every), None, None) => Recurrence::parse(every).map(SilenceTime::Every),
            (None, Some(from), Some(until)) => {
                let stretch = Stretch { from_ms: instant("from", from)?, until_ms: instant("until", until)? };
                if stretch.until_ms <= stretch.from_ms {
                    let message = format!("this silence ends at {until}, before it begins at {from}");
                    let help = "put the later instant under `until`".to_string();
                    return Err(SilenceError { key: "until", message, within: 0..until.len(), help });
                }
                Ok(SilenceTime::Once(stretch))
            }
            (None, None, None) => Err(whole(
                "this silence has no time",
                "add `every: Sun 02:00-04:00 Europe/Paris`, or `from` and `until`",
            )),
            (None, ..) => Err(whole("a silence has both `from` and `until`", INSTANT)),
            (Some(_), ..) => Err(whole(
                "`every` and `from` and `until` are two silences",
                "keep `every`, or `from` and `until`; make two silences of it if both are meant",
            )),
        }
    }

    /// The stretch of it that overlaps [start, end), the first one.
    pub fn overlap(&self, start_ms: i64, end_ms: i64) -> Option<Stretch> {
        let overlaps = |stretch: &Stretch| stretch.from_ms < end_ms && start_ms < stretch.until_ms;
        match self {
            SilenceTime::Once(stretch) => Some(*stretch).filter(overlaps),
            SilenceTime::Every(recurrence) => recurrence.from(start_ms).next().filter(overlaps),
        }
    }

    /// The next stretches that are not over at `now_ms`, the first may have begun.
    pub fn next(&self, now_ms: i64, most: usize) -> Vec<Stretch> {
        match self {
            SilenceTime::Once(stretch) => {
                let to_come = Some(*stretch).filter(|stretch| stretch.until_ms > now_ms);
                to_come.into_iter().take(most).collect()
            }
            SilenceTime::Every(recurrence) => recurrence.from(now_ms).take(most).collect(),
        }
    }

    /// Whether it is over for good.
    pub fn is_past(&self, now_ms: i64) -> bool {
        matches!(self, SilenceTime::Once(stretch) if stretch.until_ms <= now_ms)
    }
}

fn instant(key: &'static str, text: &str) -> Result<i64, SilenceError> {
    DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_millis()).map_err(|_| SilenceError {
        key,
        message: format!("`{text}` is not an instant"),
        within: 0..text.len(),
        help: INSTANT.to_string(),
    })
}

/// More days than any week has between two stretches, and than any zone ever skipped.
const MOST_DAYS: u64 = 16;

impl Recurrence {
    /// `days HH:MM-HH:MM zone`.
    pub fn parse(text: &str) -> Result<Self, SilenceError> {
        let words = words(text);
        let wrong = |within: &Range<usize>, (message, help): Wrong| SilenceError {
            key: "every",
            message,
            within: within.clone(),
            help,
        };
        let [days_at, time_at, zone_at] = words.as_slice() else {
            let message = match words.len() {
                0 => "nothing stands here".to_string(),
                1 => format!("`{text}` has no time of day and no zone"),
                2 => format!("`{text}` has no time zone"),
                _ => format!("`{text}` has more than days, a time and a zone"),
            };
            return Err(wrong(&(0..text.len()), (message, EXAMPLE.to_string())));
        };
        let days = days(&text[days_at.clone()]).map_err(|reason| wrong(days_at, reason))?;
        let (from_minute, until_minute) = times(&text[time_at.clone()]).map_err(|reason| wrong(time_at, reason))?;
        let zone = zone(&text[zone_at.clone()]).map_err(|reason| wrong(zone_at, reason))?;
        Ok(Self { days, from_minute, until_minute, zone })
    }

    /// Stretches in order, from the first that is not over at this instant.
    fn from(&self, start_ms: i64) -> impl Iterator<Item = Stretch> + '_ {
        let local = DateTime::from_timestamp_millis(start_ms).unwrap_or_default().with_timezone(&self.zone);
        // A stretch of two days ago may last until now: one that began late yesterday, in a zone that jumped.
        let mut date = local.date_naive().checked_sub_days(Days::new(2));
        let mut barren = 0;
        std::iter::from_fn(move || {
            while barren < MOST_DAYS {
                let today = date?;
                date = today.checked_add_days(Days::new(1));
                barren += 1;
                if let Some(stretch) = self.on(today).filter(|stretch| stretch.until_ms > start_ms) {
                    barren = 0;
                    return Some(stretch);
                }
            }
            None
        })
    }

    /// What begins on this day; none where clocks jump over all of it.
    fn on(&self, date: NaiveDate) -> Option<Stretch> {
        let begins = self.days.get(date.weekday().num_days_from_monday() as usize).copied().unwrap_or(false);
        if !begins {
            return None;
        }
        let midnight = date.and_hms_opt(0, 0, 0)?;
        let at = |minute: u32| midnight.checked_add_signed(TimeDelta::minutes(i64::from(minute)));
        let from_ms = instant_of(self.zone, at(self.from_minute)?, Pass::First)?;
        let until_ms = instant_of(self.zone, at(self.until_minute)?, Pass::Second)?;
        (from_ms < until_ms).then_some(Stretch { from_ms, until_ms })
    }
}

/// Which of two instants with the same time on the wall.
#[derive(Clone, Copy)]
enum Pass {
    First,
    Second,
}

/// Longest stretch of time on the wall that any zone ever skipped is a day; whole minutes since 1972.
const MOST_SKIPPED_MINUTES: i64 = 2 * 24 * 60;

fn instant_of(zone: Tz, local: NaiveDateTime, pass: Pass) -> Option<i64> {
    for minutes in 0..=MOST_SKIPPED_MINUTES {
        let local = local.checked_add_signed(TimeDelta::minutes(minutes))?;
        match (zone.from_local_datetime(&local), pass) {
            (LocalResult::Single(time), _) => return Some(time.timestamp_millis()),
            (LocalResult::Ambiguous(first, _), Pass::First) => return Some(first.timestamp_millis()),
            (LocalResult::Ambiguous(_, second), Pass::Second) => return Some(second.timestamp_millis()),
            // Skipped: the first time that exists again is the instant of the jump.
            (LocalResult::None, _) => {}
        }
    }
    None
}

/// Bytes of the words of a text.
fn words(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = None;
    for (at, letter) in text.char_indices().chain([(text.len(), ' ')]) {
        match (start, letter.is_whitespace()) {
            (None, false) => start = Some(at),
            (Some(from), true) => {
                found.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    found
}

type Wrong = (String, String);

/// `daily`, `Mon`, `Mon-Fri`, `Mon,Wed,Sat-Sun`.
fn days(text: &str) -> Result<[bool; 7], Wrong> {
    if text.eq_ignore_ascii_case("daily") {
        return Ok([true; 7]);
    }
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let mut current = first;
        loop {
            days[current] = true;
            if current == last {
                break;
            }
            current = (current + 1) % 7;
        }
    }
    Ok(days)
}

fn day(text: &str) -> Result<usize, Wrong> {
    if let Some(found) = DAYS.iter().position(|day| day.eq_ignore_ascii_case(text)) {
        return Ok(found);
    }
    let help = match text.parse::<Weekday>() {
        Ok(day) => format!("write `{}`", DAYS[day.num_days_from_monday() as usize]),
        Err(_) => match nearest(text, DAYS) {
            Some(day) => format!("did you mean `{day}`?"),
            None => "days are `Mon` to `Sun`, `Mon-Fri`, `Mon,Wed`, or `daily`".to_string(),
        },
    };
    Err((format!("`{text}` is not a day"), help))
}

/// `02:00-04:00`; one that ends before it begins goes on past midnight.
fn times(text: &str) -> Result<(u32, u32), Wrong> {
    let help = || "write `02:00-04:00`; `00:00-24:00` is the whole day".to_string();
    let Some((from, until)) = text.split_once('-') else {
        return Err((format!("`{text}` is not a stretch of time"), help()));
    };
    let minute = |text: &str| {
        let (hours, minutes) = text.split_once(':')?;
        let number = |text: &str| (text.len() == 2).then(|| text.parse::<u32>().ok()).flatten();
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        (hours < 24 && minutes < 60 || hours == 24 && minutes == 0).then_some(hours * 60 + minutes)
    };
    let read = |text: &str| minute(text).ok_or_else(|| (format!("`{text}` is not a time of day"), help()));
    let (from, until) = (read(from)?, read(until)?);
    if from == until {
        return Err((format!("`{text}` is no time at all"), help()));
    }
    if from == DAY_MINUTES {
        return Err(("a day begins at 00:00".to_string(), help()));
    }
    Ok((from, if until > from { until } else { until + DAY_MINUTES }))
}

fn zone(text: &str) -> Result<Tz, Wrong> {
    if let Ok(zone) = text.parse::<Tz>() {
        return Ok(zone);
    }
    let city = |zone: &str| zone.rsplit('/').next().unwrap_or_default().to_lowercase();
    let wanted = city(text);
    let of_city = TZ_VARIANTS.iter().map(|zone| zone.name()).find(|name| name.contains('/') && city(name) == wanted);
    let found = of_city.or_else(|| nearest(text, TZ_VARIANTS.iter().map(|zone| zone.name())));
    let help = match found {
        Some(name) => format!("did you mean `{name}`?"),
        None => "zones are those of the IANA database, such as `Europe/Paris`, `America/New_York` or `UTC`".to_string(),
    };
    Err((format!("`{text}` is not a time zone"), help))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(text: &str) -> SilenceTime {
        SilenceTime::Every(Recurrence::parse(text).unwrap())
    }

    fn at(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
    }

    /// The next stretches, as UTC.
    fn next(text: &str, now: &str, most: usize) -> Vec<String> {
        let utc = |ms: i64| DateTime::from_timestamp_millis(ms).unwrap().format("%m-%dT%H:%M").to_string();
        let stretches = every(text).next(at(now), most);
        stretches.iter().map(|one| format!("{}/{}", utc(one.from_ms), utc(one.until_ms))).collect()
    }

    #[test]
    fn days_ranges_and_lists_begin_in_their_zone() {
        // 2026-11-24 is a Tuesday.
        let now = "2026-11-24T12:00:00Z";
        assert_eq!(
            next("Sun 02:00-04:00 Europe/Paris", now, 2),
            ["11-29T01:00/11-29T03:00", "12-06T01:00/12-06T03:00"]
        );
        assert_eq!(next("daily 03:00-03:30 America/New_York", now, 1), ["11-25T08:00/11-25T08:30"]);
        let weekdays = next("Mon-Fri 22:00-06:00 UTC", now, 5);
        assert_eq!(weekdays[..2], ["11-24T22:00/11-25T06:00", "11-25T22:00/11-26T06:00"]);
        assert_eq!(weekdays[4], "11-30T22:00/12-01T06:00", "not on Saturday and Sunday");
        assert_eq!(next("Sat,Sun 00:00-24:00 UTC", now, 2), ["11-28T00:00/11-29T00:00", "11-29T00:00/11-30T00:00"]);
        assert_eq!(next("fri-mon 10:00-11:00 UTC", now, 4)[3], "11-30T10:00/11-30T11:00", "past the end of the week");
        assert_eq!(next("daily 22:00-06:00 UTC", "2026-11-24T05:00:00Z", 1), ["11-23T22:00/11-24T06:00"], "has begun");
    }

    /// Clocks in Paris go from 02:00 to 03:00 on 29 March 2026 at 01:00 UTC, and from 03:00 back to 02:00 on 25 October at
    /// 01:00 UTC.
    #[test]
    fn the_hour_that_clocks_skip_or_repeat_is_where_it_is_said_to_be() {
        let spring = "2026-03-28T12:00:00Z";
        assert_eq!(next("Sun 02:00-04:00 Europe/Paris", spring, 1), ["03-29T01:00/03-29T02:00"]);
        assert_eq!(next("Sun 01:00-02:30 Europe/Paris", spring, 1), ["03-29T00:00/03-29T01:00"]);
        assert_eq!(next("Sun 02:30-03:30 Europe/Paris", spring, 1), ["03-29T01:00/03-29T01:30"]);
        assert_eq!(
            next("Sun 02:10-02:50 Europe/Paris", spring, 1),
            ["04-05T00:10/04-05T00:50"],
            "all of it is skipped"
        );
        let autumn = "2026-10-24T12:00:00Z";
        assert_eq!(next("Sun 02:00-04:00 Europe/Paris", autumn, 1), ["10-25T00:00/10-25T03:00"]);
        assert_eq!(next("Sun 02:10-02:50 Europe/Paris", autumn, 1), ["10-25T00:10/10-25T01:50"], "both passes");
        // Samoa had no 30 December 2011.
        assert_eq!(next("Fri 01:00-05:00 Pacific/Apia", "2011-12-29T00:00:00Z", 1), ["01-05T11:00/01-05T15:00"]);
    }

    #[test]
    fn a_window_that_overlaps_is_within_and_one_that_touches_is_not() {
        let silence = every("Sun 02:00-04:00 Europe/Paris");
        let overlaps = |from: &str, until: &str| silence.overlap(at(from), at(until)).is_some();
        assert!(overlaps("2026-11-29T00:30:00Z", "2026-11-29T01:30:00Z"));
        assert!(overlaps("2026-11-29T02:59:00Z", "2026-11-29T04:00:00Z"));
        assert!(overlaps("2026-11-24T00:00:00Z", "2026-12-24T00:00:00Z"), "a month holds a Sunday");
        assert!(!overlaps("2026-11-29T00:00:00Z", "2026-11-29T01:00:00Z"));
        assert!(!overlaps("2026-11-29T03:00:00Z", "2026-11-29T04:00:00Z"));
        let once = SilenceTime::Once(Stretch { from_ms: 100, until_ms: 200 });
        assert!(once.overlap(150, 160).is_some() && once.overlap(0, 101).is_some());
        assert!(once.overlap(200, 300).is_none() && once.overlap(0, 100).is_none());
        assert!(once.is_past(200) && !once.is_past(199) && once.next(200, 3).is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_refused_at_its_place() {
        for (text, at, message, help) in [
            ("Sun 02:00-04:00 Europe/Pariss", 16..29, "not a time zone", "`Europe/Paris`"),
            ("Sun 02:00-04:00 Paris", 16..21, "not a time zone", "`Europe/Paris`"),
            ("Sunday 02:00-04:00 UTC", 0..6, "not a day", "`Sun`"),
            ("Mon-Fry 02:00-04:00 UTC", 0..7, "`Fry` is not a day", "`Fri`"),
            ("Sun 2:00-4:00 UTC", 4..13, "`2:00` is not a time of day", "`02:00-04:00`"),
            ("Sun 02:00 UTC", 4..9, "not a stretch of time", "`02:00-04:00`"),
            ("Sun 02:00-02:00 UTC", 4..15, "no time at all", "whole day"),
            ("Sun 24:00-02:00 UTC", 4..15, "begins at 00:00", "whole day"),
            ("Sun 25:00-26:00 UTC", 4..15, "not a time of day", "whole day"),
            ("Sun 02:00-04:00", 0..15, "no time zone", "Europe/Paris"),
            ("", 0..0, "nothing stands here", "Europe/Paris"),
        ] {
            let found = Recurrence::parse(text).unwrap_err();
            assert_eq!(found.within, at, "{text}: {found}");
            assert!(found.message.contains(message), "{text}: {}", found.message);
            assert!(found.help.contains(help), "{text}: {}", found.help);
        }
    }
}
