//! `natgw drops`: what was refused, by reason.

use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use nat_common::drop::DropReason;

use super::args::DropsArgs;
use super::table::{Column, Row, number, table, text};
use super::units::{duration, endpoint, grouped};
use super::{output, reading};
use crate::datapath::{DatapathError, Maps, now};
use crate::report::{self, DropReading, DropReport, LatestDrop};

/// How long the first rates are measured.
const FIRST_INTERVAL: Duration = Duration::from_millis(250);

/// Shows what was dropped.
pub(super) fn execute(pin_dir: &Path, args: &DropsArgs) -> Result<ExitCode> {
    let mut before = Totals::read(&reading::maps(pin_dir)?)?;
    sleep(FIRST_INTERVAL);
    if args.json {
        return view(pin_dir, &mut before, |drops| {
            let shown: Vec<_> = drops.iter().filter(|drop| args.all || drop.packets > 0).collect();
            output::print_json(&shown)?;
            Ok(ExitCode::SUCCESS)
        });
    }
    output::watch(args.watch, || view(pin_dir, &mut before, |drops| Ok(for_people(drops, args.all))))
}

/// Packets dropped for each reason, and when that was.
struct Totals {
    at: Instant,
    packets: Vec<u64>,
}

impl Totals {
    fn read(maps: &Maps) -> Result<Self, DatapathError> {
        let packets = DropReason::ALL.iter().map(|reason| maps.drops(*reason)).collect::<Result<_, _>>()?;
        Ok(Self { at: Instant::now(), packets })
    }
}

/// Hands `show` the drops of this moment, with rates since `before`, which becomes this moment.
fn view<T>(
    pin_dir: &Path,
    before: &mut Totals,
    show: impl FnOnce(&[DropReport<'_>]) -> Result<T>,
) -> Result<T> {
    let maps = reading::maps(pin_dir)?;
    let interfaces = maps.applied()?.map(|applied| applied.interfaces).unwrap_or_default();
    let totals = Totals::read(&maps)?;
    let mut readings = Vec::new();
    for ((reason, packets), before) in DropReason::ALL.iter().zip(&totals.packets).zip(&before.packets) {
        readings.push(DropReading {
            reason: *reason,
            packets: *packets,
            // A gateway set up anew counts from zero.
            recent: packets.saturating_sub(*before),
            sample: maps.drop_sample(*reason)?,
        });
    }
    let since = totals.at - before.at;
    *before = totals;
    show(&report::drops(&readings, since, &interfaces, now()))
}

fn for_people(drops: &[DropReport<'_>], all: bool) -> String {
    let packets = grouped(drops.iter().map(|drop| drop.packets).sum());
    let per_second: f64 = drops.iter().map(|drop| drop.per_second).sum();
    let shown: Vec<_> = drops.iter().filter(|drop| all || drop.packets > 0).collect();
    format!("{}packets dropped: {packets}, {per_second:.1} per second\n", table(&shown))
}

impl Row for &DropReport<'_> {
    const COLUMNS: &'static [Column] =
        &[text("REASON"), number("PACKETS"), number("PER SECOND"), text("DESCRIPTION"), text("LATEST")];

    fn cells(&self) -> Vec<String> {
        vec![
            self.reason.to_owned(),
            grouped(self.packets),
            format!("{:.1}", self.per_second),
            self.description.to_owned(),
            self.latest.as_ref().map_or("-".to_owned(), of_packet),
        ]
    }
}

fn of_packet(latest: &LatestDrop<'_>) -> String {
    format!(
        "{} ago on {}: {} {} → {}, {} bytes",
        duration(latest.seconds_ago),
        latest.interface,
        latest.protocol,
        endpoint(latest.source, latest.source_port),
        endpoint(latest.destination, latest.destination_port),
        latest.length
    )
}

#[cfg(test)]
mod tests {
    use nat_common::drop::DropSample;
    use nat_common::flow::FlowKey4;

    use super::*;

    fn drops() -> Vec<DropReport<'static>> {
        let reading = |reason, packets, sample| DropReading { reason, packets, recent: packets, sample };
        let key = FlowKey4 { source: u32::from_be_bytes([10; 4]), protocol: 17, ..FlowKey4::default() };
        let sample = DropSample { key, tick: 100, ifindex: 3, length: 60, spare: 0 };
        let readings =
            [reading(DropReason::Martian, 1_234, Some(sample)), reading(DropReason::NoRoute, 0, None)];
        report::drops(&readings, Duration::from_secs(1), &[], 110)
    }

    #[test]
    fn reasons_that_never_occurred_are_shown_only_if_asked_for() {
        assert_eq!(for_people(&drops(), false).lines().count(), 3);
        let all = for_people(&drops(), true);
        assert!(all.lines().any(|line| line.starts_with("no_route ")), "{all}");
    }

    #[test]
    fn a_reason_shows_its_rate_and_its_latest_packet() {
        let text = for_people(&drops(), false);
        let row = text.lines().nth(1).unwrap();
        assert!(row.starts_with("martian    1,234      1234.0  a source or destination"), "{row}");
        assert!(row.ends_with("11s ago on if3: udp 10.10.10.10 → 0.0.0.0, 60 bytes"), "{row}");
        assert!(text.ends_with("\npackets dropped: 1,234, 1234.0 per second\n"), "{text}");
    }
}
