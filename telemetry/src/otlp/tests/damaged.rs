//! The decoder says of every request what prost and the oracle say of it: of whole ones, of ones that somebody on the
//! way has put in another order or filled with what nobody knows, and of damaged ones.

use proptest::prelude::*;
use prost::Message;

use super::super::schema::{self, Kind, Schema};
use super::super::wire::Reader;
use super::super::write::Writer;
use super::*;

/// Random numbers, good enough to choose with.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % n.max(1)
    }

    /// One of so many.
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The fields of a message, each with its key and as its bytes; none where it is damaged.
fn fields(bytes: &[u8]) -> Option<Vec<(u32, Vec<u8>)>> {
    let mut reader = Reader::new(bytes);
    let mut fields = Vec::new();
    let mut at = 0;
    while let Some(key) = reader.key().ok()? {
        reader.skip(key, 100).ok()?;
        let end = bytes.len() - reader.len();
        fields.push((key, bytes[at..end].to_vec()));
        at = end;
    }
    Some(fields)
}

fn sized_field(key: u32, value: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    write_varint(u64::from(key), &mut field);
    write_varint(value.len() as u64, &mut field);
    field.extend_from_slice(value);
    field
}

fn value_of(field: &[u8]) -> &[u8] {
    let mut reader = Reader::new(field);
    reader.key().unwrap();
    reader.sized().unwrap()
}

/// The same message otherwise: fields in another order, told twice, left out, of another wire type, in pieces; and
/// fields that nobody knows. `rarely`: one of how many fields.
fn otherwise(bytes: &[u8], schema: &Schema, rarely: usize, dice: &mut Dice) -> Vec<u8> {
    let mut fields = fields(bytes).unwrap();
    for (key, field) in &mut fields {
        let kind = schema.kind(*key >> 3);
        match kind {
            Some(Kind::Message(inner)) if *key & 7 == 2 => {
                let value = otherwise(value_of(field), inner, rarely, dice);
                *field = sized_field(*key, &value);
                if dice.one_in(rarely)
                    && let Some(parts) = self::fields(&value)
                {
                    // In two pieces: a message that is told in pieces is one.
                    let (first, second) = parts.split_at(dice.below(parts.len() + 1));
                    let piece = |part: &[(u32, Vec<u8>)]| {
                        let value: Vec<u8> = part.iter().flat_map(|(_, field)| field.clone()).collect();
                        sized_field(*key, &value)
                    };
                    *field = [piece(first), piece(second)].concat();
                }
            }
            Some(Kind::Fixed64s) if *key & 7 == 2 && dice.one_in(rarely) => {
                // One by one, and not packed.
                let one = |bytes: &[u8]| [&[(*key - 1) as u8], bytes].concat();
                *field = value_of(field).chunks(8).flat_map(one).collect();
            }
            Some(Kind::Varints) if *key & 7 == 2 && dice.one_in(rarely) => {
                let mut numbers = Reader::new(value_of(field));
                let mut unpacked = Vec::new();
                while numbers.len() > 0 {
                    unpacked.push((*key - 2) as u8);
                    write_varint(numbers.varint().unwrap(), &mut unpacked);
                }
                *field = unpacked;
            }
            _ => {}
        }
    }
    let mut at = 0;
    while at < fields.len() {
        if dice.one_in(rarely) {
            match dice.below(8) {
                0 => drop(fields.remove(at)),
                1 => fields.insert(at, fields[dice.below(fields.len())].clone()),
                2 | 3 => {
                    let other = dice.below(fields.len());
                    fields.swap(at, other);
                }
                4 => fields.insert(at, (0, stranger(dice))),
                5 => {
                    let (key, field) = &mut fields[at];
                    let at = usize::from(*key >= 0x80) + 1 + dice.below(8);
                    if let Some(byte) = field.get_mut(at) {
                        *byte ^= 1 << dice.below(8);
                    }
                }
                6 => fields[at].1[0] ^= 1 << dice.below(3),
                _ => fields.truncate(at + 1),
            }
        }
        at += 1;
    }
    fields.into_iter().flat_map(|(_, field)| field).collect()
}

/// A field that nobody knows; some of them cannot be.
fn stranger(dice: &mut Dice) -> Vec<u8> {
    const OTHERS: [&[u8]; 12] = [
        &[0xa8, 0x06, 0x05],
        &[0xad, 0x06, 1, 2, 3, 4],
        &[0xa9, 0x06, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0xaa, 0x06, 2, b'h', b'i'],
        // Groups: empty, within one another, of another number, without an end.
        &[0xab, 0x06, 0xac, 0x06],
        &[0xab, 0x06, 0x0b, 0x08, 0x01, 0x0c, 0xac, 0x06],
        &[0xab, 0x06, 0xb4, 0x06],
        &[0xab, 0x06],
        // Wire types and numbers that there are not.
        &[0xae, 0x06],
        &[0x02, 0],
        // The largest number, and one that is too large.
        &[0xa8, 0x06, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0xa8, 0x06, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
    ];
    let choices = if dice.one_in(8) { OTHERS.len() } else { 6 };
    OTHERS[dice.below(choices)].to_vec()
}

/// What both say of the bytes; that they agree is the claim.
fn agreed(bytes: &[u8], bounds: &Bounds) -> Result<bool, TestCaseError> {
    let (own, told) = (decode(bytes, bounds), oracle::decode(bytes, bounds));
    match (&own, &told) {
        (Ok(own), Ok(told)) => prop_assert_eq!(own, told),
        (Err(_), Err(_)) => {}
        _ => prop_assert!(false, "{:?} where the oracle says {:?}", own.err(), told.err()),
    }
    Ok(told.is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_request_that_somebody_has_put_otherwise_says_what_the_oracle_says(
        reports in prop::collection::vec(report(), 1..3), seed in 1u64.., rarely in prop::sample::select(vec![4, 30, 200, 2_000]),
    ) {
        let whole: Vec<u8> = reports.iter().flat_map(encode).collect();
        prop_assert!(agreed(&whole, &BOUNDS)?, "what was encoded can be read");
        let mut dice = Dice(seed);
        for _ in 0..8 {
            let bytes = otherwise(&whole, &schema::REQUEST, rarely, &mut dice);
            agreed(&bytes, &BOUNDS)?;
            agreed(&bytes, &Bounds { paths: 2, calls: 3 })?;
        }
    }

    #[test]
    fn a_damaged_request_says_what_the_oracle_says(report in report(), seed in 1u64..) {
        let whole = encode(&report);
        let mut dice = Dice(seed);
        for _ in 0..16 {
            let mut bytes = whole.clone();
            for _ in 0..=dice.below(3) {
                let at = dice.below(bytes.len());
                match dice.below(4) {
                    0 => bytes.truncate(at),
                    1 => drop((at < bytes.len()).then(|| bytes.remove(at))),
                    2 => bytes.insert(at, dice.below(256) as u8),
                    _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = dice.below(256) as u8),
                }
            }
            agreed(&bytes, &BOUNDS)?;
        }
    }

    #[test]
    fn metrics_of_others_are_counted_as_the_oracle_counts_them(report in report(), seed in 1u64.., rarely in prop::sample::select(vec![30, 300])) {
        let mut request = ExportMetricsServiceRequest::decode(&*encode(&report)).unwrap();
        for metrics in &mut request.resource_metrics {
            metrics.resource.as_mut().unwrap().attributes.retain(|attribute| attribute.key != "couplet.sequence");
        }
        let whole = request.encode_to_vec();
        let decoded = decode(&whole, &BOUNDS).unwrap();
        prop_assert!(decoded.reports.is_empty() && decoded.ignored > 0);
        let mut dice = Dice(seed);
        for _ in 0..8 {
            agreed(&otherwise(&whole, &schema::REQUEST, rarely, &mut dice), &BOUNDS)?;
        }
    }
}

/// A value within values, so many of them, as an attribute of a resource.
fn nested(depth: usize) -> Vec<u8> {
    let mut value = vec![0x18, 0x01];
    for _ in 0..depth {
        let array = sized_field(0x0a, &value);
        value = sized_field(0x2a, &array);
    }
    let attribute = [sized_field(0x0a, b"deep"), sized_field(0x12, &value)].concat();
    let resource = sized_field(0x0a, &attribute);
    sized_field(0x0a, &sized_field(0x0a, &resource))
}

#[test]
fn values_within_values_are_read_as_deep_as_the_oracle_reads_them_and_no_deeper() {
    let accepted: Vec<bool> = (0..60).map(|depth| agreed(&nested(depth), &BOUNDS).unwrap()).collect();
    assert!(accepted[0] && !accepted[59]);
    assert!(decode(&nested(3_000), &BOUNDS).is_err());
}

#[test]
fn an_attribute_of_no_bytes_names_no_row() {
    let mut window = crate::window::Window::new(crate::window::WindowLimits { paths: 4, callees: 4 });
    let path = Arc::new(PathDefinition::root("shop", "GET /"));
    let callee = Arc::new(Callee::new("stock", "GET /"));
    let call = crate::window::Call {
        outcome: Outcome::Ok,
        duration: 1,
        first_byte: None,
        blocking: true,
        evidence: Evidence::Exact,
        attempts: 1,
        request_bytes: 1,
        response_bytes: 1,
    };
    window.call(&path, &callee, &call);
    let origin = Origin { service: "shop".into(), instance: "shop-1".into(), version: None, inbound: None };
    let mut request = ExportMetricsServiceRequest::decode(&*encode(&window.close(origin, 1, 0, 1))).unwrap();
    for metric in &mut request.resource_metrics[0].scope_metrics[0].metrics {
        // Rows that are defined in an unusual form are found all the same; points that name none are an error.
        match &mut metric.data {
            Some(Data::ExponentialHistogram(data)) => data.data_points[0].attributes.rotate_left(1),
            Some(Data::Sum(sum)) => {
                sum.data_points[0].attributes[..3].fill(Default::default());
            }
            _ => {}
        }
    }
    assert!(!agreed(&request.encode_to_vec(), &BOUNDS).unwrap());
}

/// A request of a proxy with these metrics.
fn request(metrics: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::default();
    out.message(1, |out| {
        out.message(1, |out| {
            out.text(1, "service.name", "shop");
            out.text(1, "service.instance.id", "shop-1");
            out.int(1, "couplet.sequence", 1);
        });
        out.message(2, metrics);
    });
    out.into_inner()
}

/// A metric with one data point, of the kind whose field this is.
fn metric(out: &mut Writer, name: &str, kinds: &[u32], point: impl Fn(&mut Writer)) {
    out.message(2, |out| {
        out.sized(1, name.as_bytes());
        kinds.iter().for_each(|kind| out.message(*kind, |out| out.message(1, &point)));
    });
}

const GAUGE: u32 = 5;
const SUM: u32 = 7;
const HISTOGRAM: u32 = 9;
const EXPONENTIAL: u32 = 10;

fn told(bytes: &[u8]) -> bool {
    agreed(bytes, &BOUNDS).unwrap()
}

#[test]
fn of_several_kinds_of_data_the_last_counts_and_all_are_checked() {
    let loss = |out: &mut Writer| {
        out.fixed64(6, 3);
        out.text(7, "couplet.loss", "paths");
    };
    for (kinds, losses) in [(&[SUM][..], 1), (&[SUM, SUM], 1), (&[SUM, GAUGE], 0), (&[GAUGE, SUM], 1)] {
        let bytes = request(|out| metric(out, "couplet.losses", kinds, loss));
        assert!(told(&bytes), "{kinds:?}");
        assert_eq!(decode(&bytes, &BOUNDS).unwrap().reports[0].losses.len(), losses, "{kinds:?}");
    }
    // Data that others replace are checked all the same.
    for damaged in [SUM, GAUGE] {
        let bytes = request(|out| {
            out.message(2, |out| {
                out.sized(1, b"couplet.losses");
                for kind in [SUM, GAUGE] {
                    let point = |out: &mut Writer| if kind == damaged { out.sized(7, &[0x0a]) } else { loss(out) };
                    out.message(kind, |out| out.message(1, point));
                }
            });
        });
        assert!(!told(&bytes), "{damaged}");
    }
}

#[test]
fn a_sum_that_nobody_knows_may_have_any_values() {
    let half = |out: &mut Writer| out.fixed64(4, 0.5_f64.to_bits());
    assert!(told(&request(|out| metric(out, "couplet.of.a.later.release", &[SUM], half))));
    assert!(!told(&request(|out| metric(out, "couplet.losses", &[SUM], half))));
}

#[test]
fn packed_numbers_that_end_amidst_one_are_an_error_whether_somebody_reads_them_or_not() {
    let path = |out: &mut Writer| {
        out.text(1, "couplet.path", "00000000000000ff");
        out.text(1, "couplet.path.root", "00000000000000ff");
        out.text(1, "couplet.endpoint", "GET /");
        out.text(1, "couplet.path.kind", "handler");
        out.text(1, "couplet.evidence", "exact");
        out.varint(6, 6);
    };
    for name in ["couplet.handling.calls", "couplet.of.a.later.release"] {
        for (length, fits) in [(8, true), (7, false), (9, false)] {
            let point = |out: &mut Writer| {
                out.sized(6, &[0; 9][..length]);
                out.text(9, "couplet.path", "00000000000000ff");
            };
            let bytes = request(|out| {
                metric(out, "http.server.request.duration", &[EXPONENTIAL], path);
                metric(out, name, &[HISTOGRAM], point);
            });
            assert_eq!(told(&bytes), fits, "{name} {length}");
        }
    }
}

#[test]
fn an_attribute_more_of_a_callee_that_is_known_is_checked() {
    for (more, fits) in [(&[][..], true), (&[0x0a], false)] {
        let pair = |path: &'static str, more: &'static [u8]| {
            move |out: &mut Writer| {
                out.text(1, "couplet.path", path);
                out.text(1, "service.peer.name", "stock");
                out.text(1, "couplet.peer.endpoint", "GET /");
                out.sized(1, more);
                out.varint(6, 6);
            }
        };
        let first = |out: &mut Writer| {
            out.text(1, "couplet.path", "00000000000000f0");
            out.text(1, "service.peer.name", "stock");
            out.text(1, "couplet.peer.endpoint", "GET /");
            out.varint(6, 6);
        };
        let bytes = request(|out| {
            metric(out, "http.client.request.duration", &[EXPONENTIAL], first);
            metric(out, "http.client.request.duration", &[EXPONENTIAL], pair("00000000000000ff", more));
        });
        assert_eq!(told(&bytes), fits);
    }
}

#[test]
fn strangers_have_their_limits_too() {
    let whole = request(|_| {});
    let with = |more: &[u8]| told(&[&whole, more].concat());
    let number = |last: u8| [&[0xa8, 0x06][..], &[0xff; 9], &[last]].concat();
    assert!(with(&number(1)));
    assert!(!with(&number(2)), "more than 64 bits");
    let groups = |depth: usize| [[0xab, 0x06].repeat(depth), [0xac, 0x06].repeat(depth)].concat();
    assert!(with(&groups(90)));
    assert!(!with(&groups(200)), "too deep");
}
