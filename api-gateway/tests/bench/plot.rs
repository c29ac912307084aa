//! The chart `docs/bench.svg`: throughput by number of connections, as groups of bars.

use std::fmt::Write;

use crate::{CONNECTION_COUNTS, load::Figures, system::SystemKind};

const SVG_WIDTH: f64 = 760.0;
const SVG_HEIGHT: f64 = 360.0;
/// Space for the legend at the top, the axis on the left, and the connection counts at the bottom.
const MARGINS: (f64, f64, f64) = (70.0, 60.0, 40.0);

fn colour(kind: SystemKind) -> &'static str {
    match kind {
        SystemKind::Echo => "#8a8f98",
        SystemKind::NestMemory => "#d9a3a0",
        SystemKind::NestPostgres => "#b5524c",
        SystemKind::SqliteBefore => "#9dbfdf",
        SystemKind::Sqlite => "#2f6fab",
        SystemKind::SqliteQuorum => "#6a5fab",
        SystemKind::PostgresBefore => "#9bd3bf",
        SystemKind::Postgres => "#2a9d74",
    }
}

pub(crate) fn svg(measurements: &[(SystemKind, usize, Figures)]) -> String {
    let (top_margin, left_margin, bottom_margin) = MARGINS;
    let max_rate = measurements
        .iter()
        .map(|(_, _, figures)| figures.rate)
        .fold(1.0, f64::max);
    let bar_height = |rate: f64| rate / max_rate * (SVG_HEIGHT - top_margin - bottom_margin);
    let baseline_y = SVG_HEIGHT - bottom_margin;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SVG_WIDTH} {SVG_HEIGHT}" font-family="sans-serif" font-size="12">
<title>Orders per second by number of connections, measured in one run</title>
<rect width="{SVG_WIDTH}" height="{SVG_HEIGHT}" fill="#ffffff"/>
<text x="{left_margin}" y="18" font-size="14" fill="#222">POST /v1/orders per second, by number of connections (closed loop)</text>
"##
    );
    for gridline_number in 1..=4 {
        let gridline_rate = max_rate * f64::from(gridline_number) / 4.0;
        let y = baseline_y - bar_height(gridline_rate);
        let _ = writeln!(
            svg,
            r##"<line x1="{left_margin}" x2="{SVG_WIDTH}" y1="{y:.1}" y2="{y:.1}" stroke="#e5e5e5"/><text x="{:.1}" y="{:.1}" text-anchor="end" fill="#666">{gridline_rate:.0}</text>"##,
            left_margin - 6.0,
            y + 4.0
        );
    }
    let kinds: Vec<SystemKind> = SystemKind::ALL
        .into_iter()
        .filter(|kind| {
            measurements
                .iter()
                .any(|(measured_kind, ..)| measured_kind == kind)
        })
        .collect();
    for (index, kind) in kinds.iter().enumerate() {
        let x = left_margin + 235.0 * (index % 3) as f64;
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
    let group_width = (SVG_WIDTH - left_margin) / CONNECTION_COUNTS.len() as f64;
    let bar_width = group_width * 0.8 / kinds.len() as f64;
    for (group_index, connections) in CONNECTION_COUNTS.iter().enumerate() {
        let group_x = left_margin + group_width * (group_index as f64 + 0.1);
        for (index, kind) in kinds.iter().enumerate() {
            let mut all_measurements = measurements.iter();
            let Some((_, _, figures)) =
                all_measurements.find(|(measured_kind, measured_connections, _)| {
                    measured_kind == kind && measured_connections == connections
                })
            else {
                continue;
            };
            let height_px = bar_height(figures.rate);
            let _ = writeln!(
                svg,
                r#"<rect x="{:.1}" y="{:.1}" width="{:.1}" height="{height_px:.1}" fill="{}"><title>{}: {:.0}/s</title></rect>"#,
                group_x + bar_width * index as f64,
                baseline_y - height_px,
                bar_width - 2.0,
                colour(*kind),
                kind.title(),
                figures.rate
            );
        }
        let _ = writeln!(
            svg,
            r##"<text x="{:.1}" y="{:.1}" text-anchor="middle" fill="#222">{connections}</text>"##,
            group_x + group_width * 0.4,
            baseline_y + 18.0
        );
    }
    svg + "</svg>\n"
}
