//! What is read through the JSON API under /api/v1; what changes something is in `write`. Lists are newest first and paged by a cursor; errors are RFC 9457.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::metrics::Watched;
pub use super::problem::Problem;
use super::view::{Delivery, Episode, View};
use crate::config::units::Span;
use crate::dispatch::control::Acknowledgement;
use crate::rules::episode::Notification;
use crate::windows::result::{Window, WindowResult};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 500;

pub type Answer<T> = Result<axum::Json<T>, Problem>;

/// One page of a list. `next_cursor` is absent on the last one.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Listing<T> {
    pub items: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct ModelItem {
    model: String,
    configured: bool,
    firing: usize,
    versions: Vec<VersionItem>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct VersionItem {
    version: String,
    /// As in YAML: `1h`.
    window_size: String,
    last_window: Window,
    rows: u64,
    complete: bool,
    reference: String,
    reference_id: String,
}

pub fn models(view: &View, watched: &Watched) -> axum::Json<Listing<ModelItem>> {
    let mut names = view.models();
    names.extend(watched.models.iter().map(|model| model.name.clone()));
    names.sort();
    names.dedup();
    let items = names.into_iter().map(|model| ModelItem {
        configured: watched.models.iter().any(|known| known.name == model),
        firing: firing(view, &model),
        versions: versions(view, &model),
        model,
    });
    axum::Json(Listing { items: items.collect(), next_cursor: None })
}

fn firing(view: &View, model: &str) -> usize {
    let of_model = |episode: &Episode| episode.first().is_some_and(|first| first.model == model);
    view.episodes().iter().filter(|(_, episode)| episode.is_firing() && of_model(episode)).count()
}

fn versions(view: &View, model: &str) -> Vec<VersionItem> {
    let last = view.whole(model).filter_map(|(key, series)| Some((key, series.values().next_back()?)));
    last.map(|(key, result)| VersionItem {
        version: key.version.clone(),
        window_size: Span::from_ms(key.size_ms).to_string(),
        last_window: result.window,
        rows: result.rows,
        complete: result.complete,
        reference: result.reference.clone(),
        reference_id: result.reference_id.clone(),
    })
    .collect()
}

/// Numbers are text here, so that a wrong one is a problem document and not a bare 400.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct WindowsQuery {
    pub model: Option<String>,
    pub version: Option<String>,
    /// `all` (default: the whole only), or `column=value`.
    pub segment: Option<String>,
    /// Name of a moving reference, such as `trailing 7d`; default: the stored one.
    pub reference: Option<String>,
    pub limit: Option<String>,
    pub cursor: Option<String>,
}

/// Identity of a window in the order of the list.
type WindowPlace = (i64, i64, String, String);

/// Windows of features.
pub fn windows(view: &View, query: &WindowsQuery) -> Answer<Listing<WindowResult>> {
    list_windows(view, query, "windows", |model| match &query.reference {
        None => view.series().filter(|(key, _)| key.model == model).collect(),
        Some(moving) => view.against(moving).filter(|(key, _)| key.model == model).collect(),
    })
}

/// Windows of performance. `reference` has no meaning here.
pub fn performance(view: &View, query: &WindowsQuery) -> Answer<Listing<WindowResult>> {
    if query.reference.is_some() {
        return Err(Problem::bad_request("`reference` is of /api/v1/windows; baselines stand in `performance`".into()));
    }
    list_windows(view, query, "performance", |model| view.performance_of(model).collect())
}

fn list_windows<'a>(
    view: &'a View,
    query: &'a WindowsQuery,
    route: &str,
    of_model: impl FnOnce(&'a str) -> Vec<(&'a super::view::SeriesKey, &'a super::view::Series)>,
) -> Answer<Listing<WindowResult>> {
    let Some(model) = &query.model else {
        return Err(Problem::bad_request(format!("`model` is required: /api/v1/{route}?model=NAME")));
    };
    if !view.models().contains(model) {
        return Err(Problem::not_found(format!("no window of a model `{model}` is held; /api/v1/models lists them")));
    }
    let segment = query.segment.as_deref().unwrap_or("all");
    let matches = |key: &super::view::SeriesKey| {
        query.version.as_ref().is_none_or(|version| key.version == *version) && key.segment.to_string() == segment
    };
    let place = |result: &WindowResult| -> WindowPlace {
        (-result.window.end_ms, result.window.start_ms, result.version.clone(), result.segment.to_string())
    };
    let series = of_model(model).into_iter().filter(|(key, _)| matches(key));
    let mut results: Vec<&WindowResult> = series.flat_map(|(_, series)| series.values()).collect();
    results.sort_by_key(|result| place(result));
    page_of(results, place, query.limit.as_deref(), query.cursor.as_deref())
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct EpisodesQuery {
    pub model: Option<String>,
    /// `firing` or `resolved`; default both.
    pub status: Option<String>,
    pub limit: Option<String>,
    pub cursor: Option<String>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct EpisodeItem {
    episode_id: String,
    firing: bool,
    /// First notification's time, epoch milliseconds.
    since_ms: i64,
    /// Who works on it now.
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged: Option<Acknowledgement>,
    /// Id of the silence that holds back what would be told of it now.
    #[serde(skip_serializing_if = "Option::is_none")]
    silenced_by: Option<String>,
    /// Where it stands.
    latest: Notification,
}

pub fn episodes(view: &View, query: &EpisodesQuery, now_ms: i64) -> Answer<Listing<EpisodeItem>> {
    let firing = match query.status.as_deref() {
        None => None,
        Some("firing") => Some(true),
        Some("resolved") => Some(false),
        Some(other) => return Err(Problem::bad_request(format!("`status` is `firing` or `resolved`, not `{other}`"))),
    };
    let items = view.episodes().into_iter().filter_map(|(id, episode)| item(view, id, episode, now_ms));
    let mut items: Vec<EpisodeItem> = items
        .filter(|item| firing.is_none_or(|firing| item.firing == firing))
        .filter(|item| query.model.as_ref().is_none_or(|model| item.latest.model == *model))
        .collect();
    let place = |item: &EpisodeItem| (-item.latest.at_ms, item.episode_id.clone());
    items.sort_by_key(place);
    page_of(items.iter().collect(), place, query.limit.as_deref(), query.cursor.as_deref())
}

fn item(view: &View, id: &str, episode: &Episode, now_ms: i64) -> Option<EpisodeItem> {
    let latest = episode.last()?;
    Some(EpisodeItem {
        episode_id: id.to_string(),
        firing: episode.is_firing(),
        since_ms: episode.first()?.at_ms,
        acknowledged: view.control().acknowledged(id, now_ms).cloned(),
        silenced_by: view.control().silenced_by(latest, now_ms).map(|silence| silence.id.clone()),
        latest: latest.clone(),
    })
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct EpisodeDetail {
    episode_id: String,
    firing: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged: Option<Acknowledgement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    silenced_by: Option<String>,
    notifications: Vec<NotificationDetail>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct NotificationDetail {
    #[serde(flatten)]
    notification: Notification,
    deliveries: Vec<Delivery>,
}

pub fn episode(view: &View, id: &str, now_ms: i64) -> Answer<EpisodeDetail> {
    let episode = view.episode(id).ok_or_else(|| Problem::not_found(format!("no episode `{id}` is held")))?;
    let notifications = episode.notifications().map(|notification| NotificationDetail {
        notification: notification.clone(),
        deliveries: view.deliveries(&notification.id).cloned().collect(),
    });
    Ok(axum::Json(EpisodeDetail {
        episode_id: id.to_string(),
        firing: episode.is_firing(),
        acknowledged: view.control().acknowledged(id, now_ms).cloned(),
        silenced_by: episode
            .last()
            .and_then(|last| view.control().silenced_by(last, now_ms))
            .map(|silence| silence.id.clone()),
        notifications: notifications.collect(),
    }))
}

/// The items after the cursor. A cursor is the place of the last item given, so that items that come or go in
/// between shift nothing.
pub(super) fn page_of<T: Clone, P: Ord + Serialize + DeserializeOwned>(
    sorted: Vec<&T>,
    place: impl Fn(&T) -> P,
    limit: Option<&str>,
    cursor: Option<&str>,
) -> Answer<Listing<T>> {
    let limit =
        match limit {
            None => DEFAULT_LIMIT,
            Some(text) => text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)).ok_or_else(|| {
                Problem::bad_request(format!("`limit` is a number from 1 to {MAX_LIMIT}, not `{text}`"))
            })?,
        };
    let after: Option<P> = match cursor {
        None => None,
        Some(text) => Some(read_cursor(text).ok_or_else(|| {
            Problem::bad_request(format!("`cursor` is `next_cursor` of an earlier answer, not `{text}`"))
        })?),
    };
    let rest: Vec<&T> =
        sorted.into_iter().filter(|item| after.as_ref().is_none_or(|after| place(item) > *after)).collect();
    let last = if rest.len() > limit { rest.get(limit - 1) } else { None };
    let next_cursor =
        last.and_then(|item| serde_json::to_vec(&place(item)).ok()).map(|json| URL_SAFE_NO_PAD.encode(json));
    Ok(axum::Json(Listing { items: rest.into_iter().take(limit).cloned().collect(), next_cursor }))
}

fn read_cursor<P: DeserializeOwned>(text: &str) -> Option<P> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}
