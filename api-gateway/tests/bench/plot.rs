//! The chart `docs/bench.svg`: throughput by number of connections, as groups of bars.

use std::fmt::Write;

use crate::{CONNECTIONS, load::Figures, system::Kind};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 360.0;
/// Space for the legend at the top, the axis on the left, and the connection counts at the bottom.
const MARGIN: (f64, f64, f64) = (70.0, 60.0, 40.0);

fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Echo => "#8a8f98",
        Kind::NestMemory => "#d9a3a0",
        Kind::NestPostgres => "#b5524c",
        Kind::SqliteBefore => "#9dbfdf",
        Kind::Sqlite => "#2f6fab",
        Kind::PostgresBefore => "#9bd3bf",
        Kind::Postgres => "#2a9d74",
    }
}

pub(crate) fn svg(closed: &[(Kind, usize, Figures)]) -> String {
    let (top, left, bottom) = MARGIN;
    let most = closed
        .iter()
        .map(|(_, _, figures)| figures.rate)
        .fold(1.0, f64::max);
    let height = |rate: f64| rate / most * (HEIGHT - top - bottom);
    let floor = HEIGHT - bottom;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">
<title>Orders per second by number of connections, measured in one run</title>
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>
<text x="{left}" y="18" font-size="14" fill="#222">POST /v1/orders per second, by number of connections (closed loop)</text>
"##
    );
    for part in 1..=4 {
        let rate = most * f64::from(part) / 4.0;
        let y = floor - height(rate);
        let _ = writeln!(
            svg,
            r##"<line x1="{left}" x2="{WIDTH}" y1="{y:.1}" y2="{y:.1}" stroke="#e5e5e5"/><text x="{:.1}" y="{:.1}" text-anchor="end" fill="#666">{rate:.0}</text>"##,
            left - 6.0,
            y + 4.0
        );
    }
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| closed.iter().any(|(this, ..)| this == kind))
        .collect();
    for (index, kind) in kinds.iter().enumerate() {
        let x = left + 235.0 * (index % 3) as f64;
        let y = 36.0 + 18.0 * (index / 3) as f64;
        let _ = writeln!(
            svg,
            r##"<rect x="{x}" y="{:.1}" width="10" height="10" fill="{}"/><text x="{:.1}" y="{y}" fill="#222">{}</text>"##,
            y - 9.0,
            colour(*kind),
            x + 15.0,
            kind.title()
        );
    }
    let group = (WIDTH - left) / CONNECTIONS.len() as f64;
    let bar = group * 0.8 / kinds.len() as f64;
    for (place, connections) in CONNECTIONS.iter().enumerate() {
        let start = left + group * (place as f64 + 0.1);
        for (index, kind) in kinds.iter().enumerate() {
            let mut all = closed.iter();
            let Some((_, _, figures)) = all.find(|(this, at, _)| this == kind && at == connections)
            else {
                continue;
            };
            let tall = height(figures.rate);
            let _ = writeln!(
                svg,
                r#"<rect x="{:.1}" y="{:.1}" width="{:.1}" height="{tall:.1}" fill="{}"><title>{}: {:.0}/s</title></rect>"#,
                start + bar * index as f64,
                floor - tall,
                bar - 2.0,
                colour(*kind),
                kind.title(),
                figures.rate
            );
        }
        let _ = writeln!(
            svg,
            r##"<text x="{:.1}" y="{:.1}" text-anchor="middle" fill="#222">{connections}</text>"##,
            start + group * 0.4,
            floor + 18.0
        );
    }
    svg + "</svg>\n"
}
