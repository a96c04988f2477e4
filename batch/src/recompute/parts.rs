//! The documents that should be where the joined tables are larger than memory: rows are parted by a hash of what the next
//! join compares, into files, and joined part by part (a grace hash join).
//!
//! A table with a key is parted by that first, so that the last record of each key is found part by part too. Files are in
//! a folder of their own below the archive's, and go when the computation ends; those of one that was killed go with the
//! next.

use std::fs::{self, File};
use std::io;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lockstep_shared::coordinates::Step;
use lockstep_shared::digest::of_values;
use lockstep_shared::plan::{Join, Pipeline, Sink, Table};
use lockstep_shared::sql::settings::Settings;
use lockstep_shared::types::DataType;
use polars::io::parquet::write::BatchedWriter;
use polars::prelude::{
    DataFrame, Expr, IdxCa, IdxSize, LazyFrame, ParquetCompression, ParquetReader, ParquetWriter, PlRefPath,
    PolarsError, ScanArgsParquet, SerReader,
};

use super::join::{columns, compared_type, documents_of, join_at_once, join_key};
use super::rows::{archived, as_input, last_standing, of_rows, readable, typed_column};
use super::{RecomputeError, failed, in_batches, in_frames};
use crate::batch::{Batch, Cells};

/// The folder of all parted computations, below the archive's, or below that of temporary files.
const FOLDER: &str = "parts";
/// Files of a computation that are older than this were left by one that was killed.
const LEFT_AFTER: Duration = Duration::from_hours(24);
/// Most parts: each is an open file.
const MOST: u64 = 128;
/// Bytes that a row takes besides its columns: in a hash table, and where it stands.
const ROW_BYTES: u64 = 64;
/// Least bytes of a cell: a text is at least its view.
const CELL_BYTES: u64 = 16;

/// How many parts the setting asks for; 1 where everything that has to be in memory at a time fits.
pub(super) fn wanted(pipeline: &Pipeline, sink: &Sink, files: &[Vec<PathBuf>]) -> Result<usize, RecomputeError> {
    // A wrong setting was refused before.
    let Ok(settings) = Settings::of(pipeline) else { return Ok(1) };
    let mut bytes = 0;
    for (input, columns) in sink.query.inputs.iter().zip(columns(pipeline, sink)) {
        let table = &pipeline.tables[input.table.0];
        // The leftmost table's rows flow by, unless the last of each key has to be found.
        if input.join.is_some() || table.is_keyed() {
            let of_table =
                files[input.table.0].iter().map(|path| in_memory(table, &columns, path)).sum::<Result<u64, _>>();
            bytes += of_table.map_err(failed(sink))?;
        }
    }
    // Half is for what flows by, and for what the system keeps of memory that was given back.
    let parts = bytes.div_ceil((settings.reconcile_memory_bytes / 2).max(1)).clamp(1, MOST);
    Ok(usize::try_from(parts).unwrap_or(1))
}

/// Bytes that these columns of a file's records take in memory, about.
fn in_memory(table: &Table, needed: &[usize], path: &Path) -> Result<u64, PolarsError> {
    let metadata = ParquetReader::new(File::open(path)?).get_metadata()?.clone();
    let columns = metadata.row_groups.iter().flat_map(|group| group.parquet_columns());
    let of_table = columns.filter(|column| {
        let name = column.descriptor().path_in_schema.first();
        name.is_some_and(|name| needed.iter().any(|c| table.columns[*c].name == name.as_str()))
    });
    let cells = of_table.map(|column| {
        let least = u64::try_from(column.num_values()).unwrap_or(0) * CELL_BYTES;
        least + u64::try_from(column.uncompressed_size()).unwrap_or(0)
    });
    let sorted = if table.is_keyed() { 2 } else { 1 };
    Ok(sorted * cells.sum::<u64>() + metadata.num_rows as u64 * ROW_BYTES)
}

/// See [`super::each_batch`].
pub(super) fn each_batch<E: From<RecomputeError>>(
    pipeline: &Pipeline,
    sink: &Sink,
    files: &[Vec<PathBuf>],
    (cut, count): (Step, usize),
    mut take: impl FnMut(&Batch<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let root = Settings::of(pipeline).map(|settings| settings.archive_path).unwrap_or_default();
    let columns = columns(pipeline, sink);
    let parting = Parting { pipeline, sink, cut, count, columns, folder: Folder::make(&root)? };
    let join_of = |number: usize| sink.query.inputs.get(number).and_then(|input| input.join.as_ref());
    let mut left = parting.rows(0, files, parting.left_keys(1, join_of(1)))?;
    for number in 1..sink.query.inputs.len() {
        let Some(join) = join_of(number) else { continue };
        let right = parting.rows(number, files, parting.right_keys(number, join))?;
        let scatter = |join| Scatter::new(&parting, format!("left{number}"), parting.left_keys(number + 1, Some(join)));
        let mut next = join_of(number + 1).map(scatter);
        for part in 0..count {
            let (of_left, of_right) = (parting.read(&left, part)?, parting.read(&right, part)?);
            let frame =
                join_at_once(pipeline, &sink.query, (number, join), (of_left, of_right)).map_err(failed(sink))?;
            match &mut next {
                Some(next) => next.add(frame)?,
                None => in_batches(pipeline, sink, documents_of(pipeline, sink, frame), &mut take)?,
            }
            parting.remove(&[&left, &right], part)?;
        }
        match next {
            Some(next) => left = next.finish()?,
            None => return Ok(()),
        }
    }
    (0..count).try_for_each(|part| {
        let frame = documents_of(pipeline, sink, parting.read(&left, part)?);
        in_batches(pipeline, sink, frame, &mut take)
    })
}

/// What rows are parted by: columns, and their types.
type Keys = Vec<(Expr, DataType)>;

/// A computation in parts.
struct Parting<'a> {
    pipeline: &'a Pipeline,
    sink: &'a Sink,
    cut: Step,
    count: usize,
    /// Of each input.
    columns: Vec<Vec<usize>>,
    folder: Folder,
}

impl Parting<'_> {
    fn table(&self, input: usize) -> &Table {
        &self.pipeline.tables[self.sink.query.inputs[input].table.0]
    }

    fn key(&self, input: usize, column: usize) -> (Expr, DataType) {
        let data_type = self.table(input).columns[column].data_type;
        (join_key(self.pipeline, &self.sink.query, input, column), compared_type(data_type))
    }

    /// What the rows before input `number` are joined to it by; the key of the leftmost table where nothing is joined.
    fn left_keys(&self, number: usize, join: Option<&Join>) -> Keys {
        match join {
            Some(join) => join.on.iter().map(|key| self.key(key.left.input, key.left.column)).collect(),
            None => self.table(number - 1).key.iter().map(|column| self.key(number - 1, *column)).collect(),
        }
    }

    fn right_keys(&self, number: usize, join: &Join) -> Keys {
        join.on.iter().map(|key| self.key(number, key.right)).collect()
    }

    /// The rows of an input, parted by `keys`.
    fn rows(&self, number: usize, files: &[Vec<PathBuf>], keys: Keys) -> Result<Parts, RecomputeError> {
        let (input, table) = (&self.sink.query.inputs[number], self.table(number));
        let records = archived(table, &files[input.table.0]).map_err(failed(self.sink))?;
        let readable = readable(records, self.cut).select(of_rows(table, &self.columns[number]));
        let mut rows = Scatter::new(self, format!("rows{number}"), keys);
        if !table.is_keyed() {
            rows.add(self.as_input(number, readable))?;
            return rows.finish();
        }
        let own: Keys = table.key.iter().map(|column| self.key(number, *column)).collect();
        let of_key = |c: &usize| (typed_column(&table.columns[*c]), table.columns[*c].data_type);
        let mut records = Scatter::new(self, format!("records{number}"), table.key.iter().map(of_key).collect());
        records.add(readable)?;
        let records = Parts { holds: Holds::RecordsOf(number), ..records.finish()? };
        if rows.keys == own {
            // Where records of a key are, the rows that are joined by it are.
            return Ok(records);
        }
        for part in 0..self.count {
            rows.add(self.read(&records, part)?)?;
            self.remove(&[&records], part)?;
        }
        rows.finish()
    }

    fn as_input(&self, number: usize, standing: LazyFrame) -> LazyFrame {
        let input = &self.sink.query.inputs[number];
        as_input(self.table(number), input, number, (standing, &self.columns[number]))
    }

    /// The rows of a part.
    fn read(&self, parts: &Parts, part: usize) -> Result<LazyFrame, RecomputeError> {
        let path = PlRefPath::new(parts.files[part].to_string_lossy());
        let arguments = ScanArgsParquet { glob: false, ..ScanArgsParquet::default() };
        let frame =
            LazyFrame::scan_parquet_files([path].into_iter().collect(), arguments).map_err(failed(self.sink))?;
        Ok(match parts.holds {
            Holds::Rows => frame,
            Holds::RecordsOf(number) => self.as_input(number, last_standing(self.table(number), frame)),
        })
    }

    /// What was read is not read again.
    fn remove(&self, parts: &[&Parts], part: usize) -> Result<(), RecomputeError> {
        parts.iter().try_for_each(|parts| fs::remove_file(&parts.files[part]).map_err(self.folder.failed()))
    }
}

/// The file of each part.
struct Parts {
    files: Vec<PathBuf>,
    holds: Holds,
}

/// What files of parts hold.
#[derive(Clone, Copy)]
enum Holds {
    Rows,
    /// Records of an input's keyed table, whose last ones are its rows.
    RecordsOf(usize),
}

/// Rows on their way into the files of their parts.
struct Scatter<'a> {
    parting: &'a Parting<'a>,
    name: String,
    keys: Keys,
    /// By part; none before the first rows, which say what columns there are.
    writers: Vec<BatchedWriter<File>>,
}

impl<'a> Scatter<'a> {
    fn new(parting: &'a Parting<'a>, name: String, keys: Keys) -> Self {
        Self { parting, name, keys, writers: Vec::new() }
    }

    fn path(&self, part: usize) -> PathBuf {
        self.parting.folder.0.join(format!("{}-{part}.parquet", self.name))
    }

    fn add(&mut self, mut frame: LazyFrame) -> Result<(), RecomputeError> {
        let failed = failed(self.parting.sink);
        if self.writers.is_empty() {
            let schema = frame.collect_schema().map_err(&failed)?;
            for part in 0..self.parting.count {
                let file = File::create(self.path(part)).map_err(self.parting.folder.failed())?;
                let writer = ParquetWriter::new(file).with_compression(ParquetCompression::Lz4Raw);
                self.writers.push(writer.batched(&schema).map_err(&failed)?);
            }
        }
        let keys = self.keys.iter().enumerate().map(|(n, (key, _))| key.clone().alias(key_name(n)));
        let frame = frame.with_columns(keys.collect::<Vec<_>>());
        in_frames(frame, &failed, |frame| self.write(frame).map_err(&failed))
    }

    fn write(&mut self, mut frame: DataFrame) -> Result<(), PolarsError> {
        frame.rechunk_mut();
        let mut keys = Vec::with_capacity(self.keys.len());
        for (n, (_, data_type)) in self.keys.iter().enumerate() {
            keys.push(Cells::new(&frame.drop_in_place(&key_name(n))?, *data_type)?);
        }
        let mut rows: Vec<Vec<IdxSize>> = vec![Vec::new(); self.writers.len()];
        for row in 0..frame.height() {
            // Values that are equal have one digest, however they are written.
            let digest = of_values("", keys.iter().map(|cells| cells.get(row)));
            rows[(digest.0 % self.writers.len() as u128) as usize].push(row as IdxSize);
        }
        let write = |rows: &[IdxSize], writer: &mut BatchedWriter<File>| match rows {
            [] => Ok(()),
            rows => writer.write_batch(&frame.take(&IdxCa::from_vec("".into(), rows.to_vec()))?),
        };
        // Packing takes longer than joining: it has all processors.
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let of_thread = rows.len().div_ceil(threads);
        std::thread::scope(|scope| {
            let some = rows.chunks(of_thread).zip(self.writers.chunks_mut(of_thread));
            let running: Vec<_> = some
                .map(|(rows, writers)| {
                    scope.spawn(move || rows.iter().zip(writers).try_for_each(|(rows, writer)| write(rows, writer)))
                })
                .collect();
            let ended = running.into_iter().map(|one| one.join().unwrap_or_else(|panic| resume_unwind(panic)));
            ended.collect::<Result<(), PolarsError>>()
        })
    }

    fn finish(self) -> Result<Parts, RecomputeError> {
        for writer in &self.writers {
            writer.finish().map_err(failed(self.parting.sink))?;
        }
        let files = (0..self.writers.len()).map(|part| self.path(part)).collect();
        Ok(Parts { files, holds: Holds::Rows })
    }
}

/// The name of a column that rows are parted by.
fn key_name(n: usize) -> String {
    format!("part_key{n}")
}

/// Computations in parts that this process has started.
static STARTED: AtomicU64 = AtomicU64::new(0);

/// A folder that is there while the computation is.
struct Folder(PathBuf);

impl Folder {
    fn make(archive: &Path) -> Result<Self, RecomputeError> {
        let wanted = archive.join(FOLDER);
        let root =
            if fs::create_dir_all(&wanted).is_ok() { wanted } else { std::env::temp_dir().join("lockstep-parts") };
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let own = Self(root.join(format!("{}-{number}", std::process::id())));
        fs::create_dir_all(&own.0).map_err(own.failed())?;
        for other in fs::read_dir(&root).map_err(own.failed())?.flatten() {
            let age = other.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > LEFT_AFTER) {
                // Another one may be at it too.
                let _ = fs::remove_dir_all(other.path());
            }
        }
        Ok(own)
    }

    fn failed(&self) -> impl Fn(io::Error) -> RecomputeError + use<> {
        let path = self.0.clone();
        move |source| RecomputeError::Disk { path: path.clone(), source }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now is removed later.
        let _ = fs::remove_dir_all(&self.0);
    }
}
