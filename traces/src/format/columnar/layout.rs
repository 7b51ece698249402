//! Which columns a columnar file has, and of which types.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Metadata, Schema, SchemaRef};

use super::super::column::{Column, Field as LinkField};
use super::super::metadata;
use crate::{TraceError, TraceMetadata};

/// The key of the trace's metadata in the schema's metadata: the JSON of the text format.
pub const METADATA_KEY: &str = "hexloop.trace";

/// The key of the SHA-256 of the rows ([`super::RowsHash`]) in the file's metadata.
pub const ROWS_KEY: &str = "hexloop.rows_sha256";

/// The key of a column's unit in the metadata of its field.
pub const UNIT_KEY: &str = "unit";

pub(super) const fn data_type(column: Column) -> DataType {
    match column {
        Column::Time | Column::Link(_, LinkField::Rate | LinkField::Delay) => DataType::UInt64,
        Column::Link(..) | Column::Cell => DataType::UInt32,
        Column::Sinr | Column::Elevation => DataType::Int32,
        Column::Mcs => DataType::UInt8,
        Column::Los | Column::Blocked => DataType::Boolean,
        Column::Event => DataType::Utf8,
    }
}

/// The schema that is written.
pub(super) fn schema_of(metadata: &TraceMetadata) -> SchemaRef {
    let fields: Vec<Field> = Column::all()
        .map(|column| {
            let known = matches!(column, Column::Time | Column::Link(..));
            let unit = (UNIT_KEY.to_owned(), column.unit().to_owned());
            Field::new(column.name(), data_type(column), !known)
                .with_metadata([unit].into_iter().collect::<Metadata>())
        })
        .collect();
    let entry = (METADATA_KEY.to_owned(), metadata::to_json(metadata));
    Arc::new(Schema::new_with_metadata(
        fields,
        [entry].into_iter().collect::<Metadata>(),
    ))
}

/// Checks the schema of a file and reads the metadata in it.
///
/// # Errors
/// No metadata, a column that is not known, missing, twice there or of another type.
pub(super) fn metadata_of(schema: &Schema) -> Result<TraceMetadata, TraceError> {
    let wrong = |problem: String| TraceError::Columnar { problem };
    let json = schema.metadata().get(METADATA_KEY).ok_or_else(|| {
        wrong(format!(
            "the schema has no metadata `{METADATA_KEY}`; expected a file that hexloop wrote, or \
             one with that key (the JSON behind `#` in the text format)"
        ))
    })?;
    let metadata = metadata::from_json(json).map_err(|(_, problem)| wrong(problem))?;
    let mut seen: Vec<Column> = Vec::new();
    for field in schema.fields() {
        let column = Column::named(field.name()).map_err(wrong)?;
        if seen.contains(&column) {
            return Err(wrong(format!("column `{}` appears twice", field.name())));
        }
        let expected = data_type(column);
        if *field.data_type() != expected {
            return Err(wrong(format!(
                "column `{}` is {}; expected {expected}",
                field.name(),
                field.data_type()
            )));
        }
        seen.push(column);
    }
    for column in Column::all().filter(|column| column.is_required()) {
        if !seen.contains(&column) {
            return Err(wrong(format!("column `{}` is missing", column.name())));
        }
    }
    Ok(metadata)
}
