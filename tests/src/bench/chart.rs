//! A picture of the figures of packets: one group of bars per scenario, one bar per gateway.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::bench::results::{Key, Results, Scenario, Series};

const WIDTH: f64 = 860.0;
const LABELS: f64 = 190.0;
const BAR: f64 = 18.0;
const GAP: f64 = 5.0;
const TITLE: f64 = 34.0;

/// Draws CPU nanoseconds per packet of the smallest frames as SVG.
#[must_use]
pub fn draw(results: &Results) -> String {
    let mut groups: BTreeMap<String, Vec<(&str, &Series)>> = BTreeMap::new();
    for (key, series) in results.series.iter().filter(|(key, _)| key.bytes == 64) {
        if let Some(title) = title(key) {
            groups.entry(title).or_default().push((&key.gateway, series));
        }
    }
    let mut body = String::new();
    let mut top = GAP;
    for (title, mut bars) in groups {
        bars.sort_by(|one, other| one.1.median().total_cmp(&other.1.median()));
        top = group(&mut body, top, &title, &bars);
    }
    let height = top + GAP;
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">
<rect width="100%" height="100%" fill="white"/>
{body}</svg>
"#
    )
}

/// Draws one group from `top` down; where the next one begins.
fn group(body: &mut String, top: f64, title: &str, bars: &[(&str, &Series)]) -> f64 {
    let longest = bars.iter().map(|(_, series)| series.range().1).fold(1.0, f64::max);
    let scale = (WIDTH - LABELS - 80.0) / longest;
    // Writing to a string cannot fail.
    let _ = writeln!(
        body,
        r#"<text x="{GAP}" y="{:.0}" font-weight="bold">{}</text>"#,
        top + TITLE - 12.0,
        escape(title)
    );
    let mut y = top + TITLE;
    for (gateway, series) in bars {
        let (low, high) = series.range();
        let (length, middle) = (series.median() * scale, y + BAR / 2.0);
        let colour = if gateway.starts_with("natgw") { "#d9622b" } else { "#8a9aa9" };
        let _ = writeln!(
            body,
            r##"<text x="{:.0}" y="{:.0}" text-anchor="end">{}</text>
<rect x="{LABELS}" y="{y:.0}" width="{length:.1}" height="{BAR}" fill="{colour}"/>
<line x1="{:.1}" x2="{:.1}" y1="{middle:.0}" y2="{middle:.0}" stroke="#222"/>
<text x="{:.1}" y="{:.0}">{:.0}</text>"##,
            LABELS - GAP,
            y + BAR - GAP,
            escape(gateway),
            LABELS + low * scale,
            LABELS + high * scale,
            LABELS + high * scale + GAP,
            y + BAR - GAP,
            series.median(),
        );
        y += BAR + GAP;
    }
    y + GAP
}

/// What a group is called; nothing for figures that are not of packets.
fn title(key: &Key) -> Option<String> {
    let sessions = key.sessions;
    let what = match key.scenario {
        Scenario::EstablishedOutbound => "outbound, established",
        Scenario::EstablishedInbound => "inbound, established",
        Scenario::New => "every packet a new session",
        Scenario::NewOneHost => "every packet a new port of one host",
        Scenario::NewAtFill
        | Scenario::NewAtFillP999
        | Scenario::TcpBulk
        | Scenario::TcpCrr
        | Scenario::TcpRrP50
        | Scenario::TcpRrP99
        | Scenario::TcpRrP999
        | Scenario::BytesPerSession
        | Scenario::AgeingCpu => return None,
    };
    Some(format!("CPU ns per packet, {what}, {sessions:>8} sessions"))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gateway_has_a_bar_and_its_median() {
        let mut results = Results::default();
        for (gateway, cost) in [("natgw XDP", 221.0), ("a <peer>", 920.0)] {
            results.add(Scenario::EstablishedOutbound, 1_000, 64, gateway, cost);
        }
        results.add(Scenario::TcpCrr, 64, 0, "natgw XDP", 30_000.0);
        let picture = draw(&results);
        assert_eq!(picture.matches("<rect x=").count(), 2);
        assert!(picture.contains(">221</text>") && picture.contains("a &lt;peer&gt;"), "{picture}");
        assert!(!picture.contains("30000"));
    }
}
