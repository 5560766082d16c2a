//! Tables for people: aligned columns, no lines, a header also when there is nothing below it.

use comfy_table::{CellAlignment, Table, presets};

/// Something that fills one row.
pub(super) trait Row {
    /// The columns, from left to right.
    const COLUMNS: &'static [Column];

    /// One text per column.
    fn cells(&self) -> Vec<String>;
}

/// One column.
#[derive(Clone, Copy)]
pub(super) struct Column {
    title: &'static str,
    alignment: CellAlignment,
}

/// A column of words, which begin at its left edge.
pub(super) const fn text(title: &'static str) -> Column {
    Column { title, alignment: CellAlignment::Left }
}

/// A column of numbers, which end at its right edge.
pub(super) const fn number(title: &'static str) -> Column {
    Column { title, alignment: CellAlignment::Right }
}

/// Draws `rows` below their header; every line ends with a newline.
pub(super) fn table<R: Row>(rows: &[R]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(R::COLUMNS.iter().map(|column| column.title));
    table.add_rows(rows.iter().map(Row::cells));
    for (column, definition) in table.column_iter_mut().zip(R::COLUMNS) {
        column.set_padding((0, GAP)).set_cell_alignment(definition.alignment);
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

/// Blanks between columns.
const GAP: u16 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    struct Animal(&'static str, u32);

    impl Row for Animal {
        const COLUMNS: &'static [Column] = &[text("NAME"), number("LEGS"), text("NOTE")];

        fn cells(&self) -> Vec<String> {
            vec![self.0.to_owned(), self.1.to_string(), "none".to_owned()]
        }
    }

    #[test]
    fn words_begin_and_numbers_end_at_the_edge_of_their_column() {
        assert_eq!(
            table(&[Animal("centipede", 100), Animal("ant", 6)]),
            "NAME       LEGS  NOTE\n\
             centipede   100  none\n\
             ant           6  none\n"
        );
    }

    #[test]
    fn a_table_without_rows_is_its_header() {
        assert_eq!(table::<Animal>(&[]), "NAME  LEGS  NOTE\n");
    }
}
