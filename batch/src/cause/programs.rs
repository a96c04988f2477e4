//! What the program before this one gave.

use lockstep_shared::coordinates::Step;
use lockstep_shared::plan::{Pipeline, Sink};

use super::{Earlier, examine::Fetch};
use crate::life::{Store, lives};

/// For each id, the earlier program's document after the step that is asked with it, or before this program began.
///
/// # Errors
/// What `fetch` says.
pub fn earlier_documents<E>(
    pipeline: &Pipeline,
    sink: &Sink,
    changed_at: Step,
    questions: &[(String, Step)],
    store: &mut Store,
    fetch: &mut Fetch<'_, E>,
) -> Result<Vec<Option<Earlier>>, E> {
    let before = Step(changed_at.0.saturating_sub(1));
    let ids: Vec<&str> = questions.iter().map(|(id, _)| id.as_str()).collect();
    let lives = lives(pipeline, sink, &ids, before, store, fetch)?;
    let earlier = |((_, step), life): (&(String, Step), Result<crate::life::Life, crate::life::Unknown>)| {
        // Whoever is not followed is not known not to have been there.
        let life = life.ok()?;
        let document = life.at((*step).min(before)).map(|standing| standing.values.clone());
        Some(Earlier { changed_at, document })
    };
    Ok(questions.iter().zip(lives).map(earlier).collect())
}
