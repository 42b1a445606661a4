//! Pages, groups and filters against brute force over the scores of all documents.

mod support;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use latewood_core::codec::CodecKind;
use latewood_core::ids::{Id, IdRef, Missing};
use latewood_core::index::{Filter, Index, Snapshot};
use latewood_core::parallel::Execution;
use latewood_core::search::{
    self, Candidates, Feedback, FeedbackMode, GatherKind, RerankOptions, SearchOptions, Selection, Source, Weighting,
};
use latewood_core::storage::MemoryStorage;
use latewood_core::tokens::TokenMatrix;
use proptest::prelude::*;
use support::{DIM, Document, add, execution, options, random};

/// What documents have as their page: as JSON, and the group that this puts them into, if any.
const PAGES: [(&str, Option<&str>); 14] = [
    ("", None),
    ("null", None),
    ("{\"x\": 1}", None),
    ("[]", None),
    ("[null]", None),
    ("1", Some("number 1")),
    ("1.0", Some("number 1")),
    ("[1, 2]", Some("number 1")),
    ("[null, [2], 1]", Some("number 2")),
    ("\"1\"", Some("text 1")),
    ("true", Some("true")),
    ("9223372036854775808", Some("number 2^63")),
    ("9223372036854775809", Some("number 2^63 + 1")),
    ("\"deux\"", Some("text deux")),
];

/// Filters, each with the languages that it lets through.
const FILTERS: [(&str, [bool; 3]); 5] = [
    ("{}", [true; 3]),
    (r#"{"lang": 0}"#, [true, false, false]),
    (r#"{"lang": {"gte": 1}}"#, [false, true, true]),
    (r#"{"not": {"lang": 1}}"#, [true, false, true]),
    (r#"{"lang": 7}"#, [false; 3]),
];

#[derive(Clone, Copy, Debug)]
struct Made {
    tokens: usize,
    page: usize,
    lang: usize,
    /// Whether its vectors are those of every such document of its page.
    equal: bool,
}

fn made() -> impl Strategy<Value = Made> {
    // One page has more documents than are scored between two looks at whether to stop.
    let page = prop_oneof![2 => Just(5), 3 => 0..PAGES.len()];
    let tokens = prop_oneof![1 => Just(0_usize), 8 => 1..5_usize];
    (tokens, page, 0..3_usize, prop::bool::weighted(0.3)).prop_map(|(tokens, page, lang, equal)| Made {
        tokens,
        page,
        lang,
        equal,
    })
}

/// What is asked for.
#[derive(Clone, Debug)]
struct Asked {
    k: Option<usize>,
    offset: usize,
    min_score: Option<f64>,
    length_normalize: bool,
    grouped: bool,
    /// Of each query.
    filters: Vec<usize>,
}

fn asked() -> impl Strategy<Value = Asked> {
    (
        prop_oneof![1 => Just(None), 6 => (1..12_usize).prop_map(Some)],
        prop_oneof![4 => 0..12_usize, 1 => Just(usize::MAX)],
        prop::option::of(-1.0..2.0_f64),
        any::<bool>(),
        any::<bool>(),
        prop_oneof![
            Just(Vec::new()),
            prop::collection::vec(0..FILTERS.len(), 1),
            prop::collection::vec(0..FILTERS.len(), QUERIES)
        ],
    )
        .prop_map(|(k, offset, min_score, length_normalize, grouped, filters)| Asked {
            k,
            offset,
            min_score,
            length_normalize,
            grouped,
            filters,
        })
}

const QUERIES: usize = 3;

impl Asked {
    fn selection(&self) -> Selection {
        Selection {
            k: self.k,
            offset: self.offset,
            min_score: self.min_score,
            length_normalize: self.length_normalize,
            filters: self.filters.iter().map(|&filter| self::filter(filter)).collect(),
            group_by: self.grouped.then(|| "where.page".to_owned()),
            rescore: None,
        }
    }

    fn lets_through(&self, query: usize, document: &Made) -> bool {
        let filter = self.filters.get(query).or(self.filters.first());
        filter.is_none_or(|&filter| FILTERS[filter].1[document.lang])
    }

    /// What is left of all documents that match, best first.
    fn select(&self, ranked: &[(i64, f32)], collection: &Collection, query: usize) -> Vec<(i64, f32)> {
        let mut groups = HashSet::new();
        let alone = |hit: &&(i64, f32)| !self.grouped || groups.insert(collection.group(hit.0));
        let page = ranked.iter().filter(alone).skip(self.offset).take(self.k.unwrap_or(usize::MAX));
        let divisor = if self.length_normalize { collection.query_tokens(query) as f32 } else { 1.0 };
        let scored = page.map(|&(id, score)| (id, score / divisor));
        scored.filter(|&(_, score)| self.min_score.is_none_or(|least| f64::from(score) >= least)).collect()
    }
}

fn filter(number: usize) -> Filter {
    Filter::from_json(FILTERS[number].0).expect("a filter")
}

struct Collection {
    documents: Vec<Made>,
    deleted: HashSet<i64>,
    snapshot: Arc<Snapshot>,
    queries: Vec<f32>,
    offsets: Vec<i64>,
}

impl Collection {
    /// Documents of one page lie near each other. They are added in `commits` commits, and every so many is deleted.
    fn new(documents: Vec<Made>, kind: CodecKind, commits: usize, seed: u64) -> Self {
        let mut numbers = random(seed).map(|number| (number >> 40) as f32 / (1 << 24) as f32 - 0.5);
        let centers: Vec<f32> = numbers.by_ref().take(PAGES.len() * DIM).collect();
        let mut near = |page: usize, noise: f32| -> Vec<f32> {
            let center = centers[page * DIM..][..DIM].iter();
            center.map(|value| value + noise * numbers.next().expect("endless")).collect()
        };
        let stored: Vec<Document> = documents
            .iter()
            .enumerate()
            .map(|(id, made)| {
                let page = PAGES[made.page].0;
                let page = if page.is_empty() { String::new() } else { format!("\"page\": {page}") };
                Document {
                    id: Id::Int(id as i64),
                    vectors: (0..made.tokens)
                        .flat_map(|_| near(made.page, if made.equal { 0.0 } else { 0.2 }))
                        .collect(),
                    text: None,
                    metadata: Some(format!("{{\"lang\": {}, \"where\": {{{page}}}}}", made.lang)),
                    truncated: false,
                }
            })
            .collect();
        let (mut queries, mut offsets) = (Vec::new(), vec![0]);
        for (query, tokens) in [3, 7, 1].into_iter().enumerate() {
            (0..tokens).for_each(|token| queries.extend(near(5 + query * token, 0.2)));
            offsets.push((queries.len() / DIM) as i64);
        }
        let index = Index::create(Arc::new(MemoryStorage::default()), options(kind, 1)).expect("created");
        let mut writer = index.writer_without_merging(&execution()).expect("a writer");
        for part in stored.chunks(stored.len().div_ceil(commits).max(1)) {
            add(&mut writer, part, false).expect("added");
            writer.commit(&execution()).expect("committed");
        }
        let deleted: HashSet<i64> = (0..stored.len() as i64).filter(|id| id % 7 == 3).collect();
        let ids: Vec<Id> = deleted.iter().map(|&id| Id::Int(id)).collect();
        writer.delete(&ids, false).expect("deleted");
        writer.commit(&execution()).expect("committed");
        drop(writer);
        Self { documents, deleted, snapshot: index.snapshot(), queries, offsets }
    }

    fn queries(&self) -> TokenMatrix<'_> {
        TokenMatrix::new(&self.queries, &self.offsets, DIM, |item| item.to_string()).expect("queries")
    }

    fn query_tokens(&self, query: usize) -> usize {
        self.queries().item_tokens(query)
    }

    fn group(&self, id: i64) -> String {
        PAGES[self.documents[id as usize].page].1.map_or_else(|| format!("alone {id}"), str::to_owned)
    }

    fn search(&self, options: &SearchOptions) -> search::Answer {
        search::search(&self.snapshot, &self.queries(), None, options, &execution()).expect("searched")
    }

    /// Id and score of each hit, by query.
    fn hits(&self, answer: &search::Answer) -> Vec<Vec<(i64, f32)>> {
        let id = |at| match self.snapshot.id(at) {
            Id::Int(id) => id,
            Id::Str(_) => unreachable!("ids are integers"),
        };
        let hits = |ranking: &search::Ranking| ranking.hits.iter().map(|hit| (id(hit.at), hit.score)).collect();
        answer.rankings.iter().map(hits).collect()
    }

    /// All documents with tokens, best first, for each query.
    fn ranked(&self) -> Vec<Vec<(i64, f32)>> {
        let gather = Some(GatherKind::Exact);
        let all = self.hits(&self.search(&SearchOptions { gather, ..SearchOptions::default() }));
        let living = (0..self.documents.len()).filter(|&id| !self.deleted.contains(&(id as i64)));
        let expected = living.filter(|&id| self.documents[id].tokens > 0).count();
        assert!(all.iter().all(|hits| hits.len() == expected));
        all
    }

    fn expected(&self, asked: &Asked) -> Vec<Vec<(i64, f32)>> {
        let ranked = self.ranked().into_iter().enumerate();
        ranked
            .map(|(query, mut hits)| {
                hits.retain(|&(id, _)| asked.lets_through(query, &self.documents[id as usize]));
                asked.select(&hits, self, query)
            })
            .collect()
    }
}

/// The user's choice, or the plan's.
fn gatherers() -> impl Strategy<Value = Option<GatherKind>> {
    let (exact, flood, postings) = (GatherKind::Exact, GatherKind::Flood, GatherKind::Postings);
    prop::sample::select(vec![None, Some(exact), Some(flood), Some(postings), Some(GatherKind::Fde)])
}

fn collection() -> impl Strategy<Value = Collection> {
    let kind = prop_oneof![3 => Just(CodecKind::Residual), 1 => Just(CodecKind::Flat)];
    let documents = prop_oneof![1 => 1..4_usize, 5 => 20..150_usize];
    (documents.prop_flat_map(|count| prop::collection::vec(made(), count)), kind, 1..4_usize, any::<u64>())
        .prop_map(|(documents, kind, commits, seed)| Collection::new(documents, kind, commits, seed))
}

impl std::fmt::Debug for Collection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}", self.documents)
    }
}

/// The candidates of every query: ids and first-stage scores, none of them equal.
fn candidates(collection: &Collection, seed: u64) -> Vec<(i64, f64)> {
    let mut numbers = random(seed);
    let living = (0..collection.documents.len() as i64).filter(|id| !collection.deleted.contains(id));
    living.filter_map(|id| numbers.next().filter(|number| number % 3 > 0).map(|n| (id, (n >> 12) as f64))).collect()
}

/// Rerank as it is described, one candidate at a time. `scores` are those of all documents.
fn reranked(
    collection: &Collection,
    asked: &Asked,
    query: usize,
    candidates: &[(i64, f64)],
    scores: &HashMap<i64, f32>,
    &RerankOptions { alpha, beta, prune_to, .. }: &RerankOptions,
) -> Vec<(i64, f32)> {
    let mut given: Vec<(i64, f64)> = candidates.to_vec();
    given.retain(|&(id, _)| asked.lets_through(query, &collection.documents[id as usize]));
    given.sort_by(|one, other| other.1.total_cmp(&one.1));
    let group = |id: i64| if asked.grouped { collection.group(id) } else { id.to_string() };
    let wanted = prune_to.unwrap_or(asked.k.unwrap_or(usize::MAX).saturating_add(asked.offset));
    let groups = |part: &[(i64, f64)]| part.iter().map(|&(id, _)| group(id)).collect::<HashSet<_>>().len();
    let enough = (1..=given.len()).find(|&count| groups(&given[..count]) == wanted);
    if let (Some(alpha), Some(enough)) = (alpha, enough) {
        let kth = given[enough - 1].1;
        given.retain(|&(_, score)| score >= kth - alpha * kth.abs());
    }
    let order = |one: &(i64, f32), other: &(i64, f32)| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0));
    let best = |scored: &[(i64, f32)]| {
        let (mut sorted, mut known) = (scored.to_vec(), HashSet::new());
        sorted.sort_by(order);
        sorted.retain(|&(id, _)| known.insert(group(id)));
        sorted.truncate(wanted);
        sorted
    };
    let (mut scored, mut failures) = (Vec::new(), 0);
    for (position, &(id, _)) in given.iter().enumerate() {
        let before = best(&scored);
        scored.push((id, scores[&id]));
        failures =
            if best(&scored) == before && enough.is_some_and(|enough| position >= enough) { failures + 1 } else { 0 };
        if beta == Some(failures) {
            break;
        }
    }
    scored.sort_by(order);
    asked.select(&scored, collection, query)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_exact_search_is_brute_force(collection in collection(), asked in asked(), seed in any::<u64>()) {
        let mut options = SearchOptions { selection: asked.selection(), gather: Some(GatherKind::Exact), ..SearchOptions::default() };
        prop_assert_eq!(collection.hits(&collection.search(&options)), collection.expected(&asked));
        // Ids limit it beside the filter.
        let some: HashSet<i64> = candidates(&collection, seed).into_iter().map(|(id, _)| id).collect();
        options.ids = Some(some.iter().map(|&id| Id::Int(id)).collect());
        let expected: Vec<_> = collection.ranked().into_iter().enumerate().map(|(query, mut hits)| {
            hits.retain(|(id, _)| some.contains(id) && asked.lets_through(query, &collection.documents[*id as usize]));
            asked.select(&hits, &collection, query)
        }).collect();
        prop_assert_eq!(collection.hits(&collection.search(&options)), expected);
    }

    #[test]
    fn every_gatherer_gives_true_scores_and_so_many_groups_as_exist(
        collection in collection(),
        asked in asked(),
        gather in gatherers(),
        max_scored in prop::option::of(1..60_usize),
        probes in prop::option::of(1..3_usize),
    ) {
        let asked = Asked { min_score: None, ..asked };
        let options = SearchOptions { selection: asked.selection(), gather, max_scored, probes, ..SearchOptions::default() };
        let found = collection.hits(&collection.search(&options));
        // All that could be returned, with the scores that they have.
        let all = Asked { k: None, offset: 0, grouped: false, ..asked.clone() };
        let everything = collection.expected(&all);
        let most = collection.expected(&asked);
        for query in 0..QUERIES {
            let scores: HashMap<i64, f32> = everything[query].iter().copied().collect();
            let hits = &found[query];
            prop_assert!(hits.iter().all(|(id, score)| scores.get(id) == Some(score)));
            prop_assert!(hits.windows(2).all(|pair| (-pair[0].1, pair[0].0) < (-pair[1].1, pair[1].0)));
            let groups: HashSet<String> = hits.iter().map(|&(id, _)| collection.group(id)).collect();
            prop_assert!(!asked.grouped || groups.len() == hits.len());
            if asked.grouped || !matches!(gather, None | Some(GatherKind::Postings)) {
                prop_assert_eq!(hits.len(), most[query].len());
            } else {
                prop_assert!(hits.len() <= most[query].len());
            }
        }
    }

    #[test]
    fn a_page_is_a_slice_of_a_longer_search(
        collection in collection(),
        asked in asked(),
        gather in gatherers(),
        max_scored in prop::option::of(1..30_usize),
        threads in 1..3_usize,
    ) {
        let options = SearchOptions { selection: asked.selection(), gather, max_scored, ..SearchOptions::default() };
        let whole = Selection { k: asked.k.map(|k| k.saturating_add(asked.offset)), offset: 0, ..asked.selection() };
        let long = collection.hits(&collection.search(&SearchOptions { selection: whole, ..options.clone() }));
        let slices: Vec<Vec<_>> = long.iter().map(|hits| hits.iter().skip(asked.offset).copied().collect()).collect();
        let threads = Execution::new(Some(threads)).expect("threads");
        let page = search::search(&collection.snapshot, &collection.queries(), None, &options, &threads);
        prop_assert_eq!(collection.hits(&page.expect("searched")), slices);
    }

    #[test]
    fn a_batch_of_filters_is_each_query_with_its_own(
        collection in collection(),
        filters in prop::collection::vec(0..FILTERS.len(), QUERIES),
        asked in asked(),
        gather in gatherers(),
    ) {
        let asked = Asked { filters, ..asked };
        let options = SearchOptions { selection: asked.selection(), gather, max_scored: Some(5), ..SearchOptions::default() };
        let together = collection.search(&options);
        let mut plans = Vec::new();
        for query in 0..QUERIES {
            let queries = collection.queries();
            let tokens = queries.item_tokens(query) as i64;
            let offsets = [0, tokens];
            let own = TokenMatrix::new(queries.item(query), &offsets, DIM, |item| item.to_string()).expect("a query");
            let selection = Selection { filters: vec![filter(asked.filters[query])], ..asked.selection() };
            let options = SearchOptions { selection, ..options.clone() };
            let alone = search::search(&collection.snapshot, &own, None, &options, &execution()).expect("searched");
            prop_assert_eq!(&alone.rankings[0].hits, &together.rankings[query].hits);
            plans.push(alone.plan);
        }
        prop_assert_eq!(&plans, &together.plans);
        let told = plans.iter().find(|plan| plan.gather != Source::None).unwrap_or(&plans[0]);
        prop_assert_eq!(told, &together.plan);
    }

    #[test]
    fn a_rerank_is_one_candidate_after_the_other(
        collection in collection(),
        asked in asked(),
        seed in any::<u64>(),
        alpha in prop::option::of(0.0..0.9_f64),
        beta in prop::option::of(1..5_usize),
        prune_to in prop::option::of(1..12_usize),
    ) {
        let (alpha, beta) = if asked.k.or(prune_to).is_some() { (alpha, beta) } else { (None, None) };
        let given = candidates(&collection, seed);
        let ids: Vec<IdRef<'_>> = (0..QUERIES).flat_map(|_| given.iter().map(|&(id, _)| IdRef::Int(id))).collect();
        let scores: Vec<f64> = (0..QUERIES).flat_map(|_| given.iter().map(|&(_, score)| score)).collect();
        let offsets: Vec<i64> = (0..=QUERIES).map(|query| (query * given.len()) as i64).collect();
        let candidates = Candidates { ids: &ids, offsets: &offsets, scores: Some(&scores) };
        let rerank = |options: &RerankOptions| {
            search::rerank(&collection.snapshot, &collection.queries(), None, candidates, options, &execution())
        };
        let options = RerankOptions { selection: asked.selection(), alpha, beta, prune_to, missing: Missing::Error };
        let answer = rerank(&options).expect("reranked");
        let all = collection.hits(&rerank(&RerankOptions::default()).expect("reranked"));
        for (query, hits) in collection.hits(&answer).into_iter().enumerate() {
            let scores: HashMap<i64, f32> = all[query].iter().copied().collect();
            prop_assert_eq!(scores.len(), given.len());
            prop_assert_eq!(hits, reranked(&collection, &asked, query, &given, &scores, &options));
        }
        prop_assert_eq!(answer.plan.gather, Source::Given);
    }

    #[test]
    fn feedback_learns_from_documents_and_gives_what_is_asked(
        collection in collection().prop_filter("cells", |collection| {
            collection.snapshot.codec.as_ref().is_some_and(|codec| codec.centroid_count() > 0)
        }),
        asked in asked(),
        reranker in any::<bool>(),
    ) {
        let mode = if reranker { FeedbackMode::Reranker } else { FeedbackMode::Ranker };
        let feedback = Feedback {
            documents: 2, clusters: 4, vectors: 2, weight: 0.5, weighting: Weighting::Normalised, mode, rescored: 1000,
        };
        let options = SearchOptions { gather: Some(GatherKind::Exact), feedback: Some(feedback), ..SearchOptions::default() };
        let whole = Selection { filters: asked.selection().filters, ..Selection::default() };
        let whole = collection.search(&SearchOptions { selection: whole, ..options.clone() });
        let answer = collection.search(&SearchOptions { selection: asked.selection(), ..options });
        let all = collection.hits(&whole);
        for (query, hits) in collection.hits(&answer).into_iter().enumerate() {
            prop_assert_eq!(&answer.rankings[query].expansion, &whole.rankings[query].expansion);
            prop_assert_eq!(hits, asked.select(&all[query], &collection, query));
        }
    }
}

/// Documents of one token vector each.
fn plain(count: usize, kind: CodecKind) -> Collection {
    let documents = (0..count).map(|id| Made { tokens: 1, page: 5 + id % 3, lang: id % 3, equal: false }).collect();
    Collection::new(documents, kind, 1, 7)
}

#[test]
fn a_plan_tells_which_options_had_no_effect() {
    let asked = |gather, max_scored, probes, threshold| SearchOptions {
        selection: Selection { k: Some(3), ..Selection::default() },
        gather,
        max_scored,
        probes,
        threshold,
        ..SearchOptions::default()
    };
    let (exact, flood, postings) = (GatherKind::Exact, GatherKind::Flood, GatherKind::Postings);
    let fde = GatherKind::Fde;
    let all = |gather| asked(gather, Some(40), Some(2), Some(0.5));
    let (small, large, flat) =
        (plain(100, CodecKind::Residual), plain(700, CodecKind::Residual), plain(700, CodecKind::Flat));
    let (three, four) = (["max_scored", "probes", "threshold"], ["gather", "max_scored", "probes", "threshold"]);
    let cases: [(&Collection, SearchOptions, GatherKind, &[&str]); 17] = [
        (&small, asked(None, None, None, None), exact, &[]),
        (&small, asked(None, Some(600), Some(2), Some(0.5)), exact, &three),
        (&small, all(None), flood, &three[1..]),
        (&small, all(Some(flood)), flood, &three[1..]),
        (&small, all(Some(postings)), postings, &[]),
        (&small, all(Some(fde)), fde, &three[1..]),
        (&small, all(Some(exact)), exact, &three),
        (&large, asked(None, None, None, None), exact, &[]),
        (&large, asked(None, Some(513), None, None), flood, &[]),
        (&large, asked(None, Some(700), None, None), exact, &["max_scored"]),
        (&large, asked(Some(exact), Some(700), None, None), exact, &["max_scored"]),
        (&large, asked(Some(exact), None, None, None), exact, &[]),
        (&flat, all(Some(flood)), exact, &four),
        (&flat, all(Some(postings)), exact, &four),
        (&flat, all(Some(fde)), exact, &four),
        (&flat, all(Some(exact)), exact, &three),
        (&flat, all(None), exact, &three),
    ];
    for (collection, options, gather, without_effect) in cases {
        let plan = collection.search(&options).plan;
        assert_eq!(plan.gather, Source::Found(gather), "{options:?}");
        assert_eq!(plan.without_effect, without_effect, "{options:?}");
        let used = |wanted: bool| wanted.then_some(());
        assert_eq!(plan.max_scored, used(gather != exact).and(options.max_scored.or(Some(512))), "{options:?}");
        assert_eq!(plan.probes, used(gather == postings).and(options.probes), "{options:?}");
        assert_eq!(plan.threshold, used(gather == postings).and(options.threshold), "{options:?}");
    }
    // Where there is nothing to search, nothing that was chosen has an effect.
    let mut options = all(Some(exact));
    options.selection.filters = vec![filter(4)];
    let plan = small.search(&options).plan;
    assert_eq!((plan.gather, &plan.without_effect[..]), (Source::None, &four[..]));
}

#[test]
fn a_plan_tells_of_a_field_that_groups_nothing() {
    let collection = plain(30, CodecKind::Residual);
    for (field, without_effect) in [("where.page", &[][..]), ("lang", &[]), ("\\lang", &[]), ("page", &["group_by"])] {
        let selection = Selection { k: Some(3), group_by: Some(field.to_owned()), ..Selection::default() };
        let options = SearchOptions { selection, ..SearchOptions::default() };
        assert_eq!(collection.search(&options).plan.without_effect, without_effect, "{field}");
    }
}

#[test]
fn filters_are_one_or_one_for_each_query() {
    let collection = plain(30, CodecKind::Flat);
    for count in [2, 4] {
        let selection = Selection { filters: vec![filter(0); count], ..Selection::default() };
        let options = SearchOptions { selection, ..SearchOptions::default() };
        let error = search::search(&collection.snapshot, &collection.queries(), None, &options, &execution());
        let message = error.expect_err("not one for each").to_string();
        assert!(message.contains(&format!("{count} filters for 3 queries")), "{message}");
    }
}
