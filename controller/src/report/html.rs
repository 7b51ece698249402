//! Escaping and tables.

use std::fmt::{self, Write};

/// A text that may stand anywhere in HTML, in attributes too.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() && c != '\n' && c != '\t' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A table; cells are HTML already.
pub(super) struct Table {
    head: Vec<String>,
    /// Columns, from the left, that hold text and not numbers.
    text_columns: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(head: &[&'static str], text_columns: usize) -> Table {
        Table {
            head: head.iter().map(|name| (*name).to_owned()).collect(),
            text_columns,
            rows: Vec::new(),
        }
    }

    /// Adds a column whose name a user wrote.
    pub(super) fn named_column(&mut self, name: &str) {
        self.head.push(escape(name));
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(super) fn write(&self, page: &mut String) -> fmt::Result {
        let class = |column: usize| {
            if column < self.text_columns {
                " class=\"t\""
            } else {
                ""
            }
        };
        writeln!(page, "<div class=\"scroll\"><table>\n<thead><tr>")?;
        for (column, name) in self.head.iter().enumerate() {
            write!(page, "<th{}>{name}</th>", class(column))?;
        }
        writeln!(page, "</tr></thead>\n<tbody>")?;
        for row in &self.rows {
            write!(page, "<tr>")?;
            for (column, cell) in row.iter().enumerate() {
                write!(page, "<td{}>{cell}</td>", class(column))?;
            }
            writeln!(page, "</tr>")?;
        }
        writeln!(page, "</tbody></table></div>")
    }
}

/// A table of names and values.
pub(super) fn facts(page: &mut String, rows: &[(&str, String)]) -> fmt::Result {
    writeln!(page, "<table class=\"facts\">")?;
    for (name, value) in rows {
        writeln!(page, "<tr><th>{name}</th><td>{value}</td></tr>")?;
    }
    writeln!(page, "</table>")
}

/// A legend: class of the mark and its HTML text.
pub(super) fn legend(page: &mut String, entries: &[(String, String)]) -> fmt::Result {
    write!(page, "<p class=\"legend\">")?;
    for (class, text) in entries {
        write!(page, "<span><i class=\"key {class}\"></i>{text}</span>")?;
    }
    writeln!(page, "</p>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_user_writes_can_become_markup() {
        let hostile = "<script>alert(\"1\")</script>&'\u{1b}";
        assert_eq!(
            escape(hostile),
            "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;\u{fffd}"
        );
    }
}
