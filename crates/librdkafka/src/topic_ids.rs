//! The ids that brokers give to topics. A topic that is deleted and made anew under its name has another one.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::IsError as _;
use rdkafka::metadata::MetadataTopic;
use rdkafka::types::RDKafkaErrorCode;

/// What librdkafka gave us and wants back, with the function that takes it.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the pointer came from the constructor that belongs to this destructor, and nobody else has it.
            unsafe { (self.1)(self.0) }
        }
    }
}

/// The ids of `topics`, in base64. Topics that are not there, or may not be described, are left out, and so are all where brokers know no ids (before
/// Kafka 2.8).
///
/// # Errors
/// If no broker answers within `limit`.
pub fn topic_ids<C: ClientContext>(
    client: &Client<C>,
    topics: &[&str],
    limit: Duration,
) -> Result<BTreeMap<String, String>, RDKafkaErrorCode> {
    let names: Vec<CString> = topics
        .iter()
        .filter_map(|topic| CString::new(*topic).ok())
        .collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    // Asked of a broker that leads a partition: librdkafka would ask the controller, which may be another that is not needed otherwise.
    let metadata = client
        .fetch_metadata(Some(topics[0]), limit)
        .map_err(|error| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail))?;
    let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
    let Some(broker) = partitions
        .map(|found| found.leader())
        .find(|leader| 0 <= *leader)
    else {
        return Err(RDKafkaErrorCode::LeaderNotAvailable);
    };
    let millis = c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX);
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let rk = client.native_ptr();
    // SAFETY: `rk` lives as long as `client`, which outlives this call; names and pointers outlive the collection, which copies them; every object
    // goes back through its own destructor, the queue after the event that came from it.
    let (queue, event) = unsafe {
        let collection = Owned(
            sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()),
            sys::rd_kafka_TopicCollection_destroy,
        );
        let options = Owned(
            sys::rd_kafka_AdminOptions_new(
                rk,
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
            ),
            sys::rd_kafka_AdminOptions_destroy,
        );
        let mut unsaid = [0; 256];
        let (text, size) = (unsaid.as_mut_ptr(), unsaid.len());
        sys::rd_kafka_AdminOptions_set_request_timeout(options.0, millis, text, size);
        sys::rd_kafka_AdminOptions_set_broker(options.0, broker, text, size);
        let queue = Owned(sys::rd_kafka_queue_new(rk), sys::rd_kafka_queue_destroy);
        sys::rd_kafka_DescribeTopics(rk, collection.0, options.0, queue.0);
        let event = Owned(
            sys::rd_kafka_queue_poll(queue.0, millis.saturating_add(500)),
            sys::rd_kafka_event_destroy,
        );
        (queue, event)
    };
    if event.0.is_null() {
        return Err(RDKafkaErrorCode::OperationTimedOut);
    }
    // SAFETY: `event` is an event, and not null.
    let error = unsafe { sys::rd_kafka_event_error(event.0) };
    if error.is_error() {
        return Err(error.into());
    }
    // SAFETY: as above.
    let ids = unsafe { described(event.0) };
    drop(event);
    drop(queue);
    Ok(ids)
}

/// What an answer says of each topic.
///
/// # Safety
/// `event` is an event of librdkafka's.
unsafe fn described(event: *mut sys::rd_kafka_event_t) -> BTreeMap<String, String> {
    let mut ids = BTreeMap::new();
    // SAFETY: null where the event is another answer; what it points to lives as long as the event.
    let result = unsafe { sys::rd_kafka_event_DescribeTopics_result(event) };
    if result.is_null() {
        return ids;
    }
    let mut count = 0;
    // SAFETY: `result` is not null; the array has `count` elements and lives as long as the event.
    let topics = unsafe { sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count) };
    for index in 0..count {
        // SAFETY: `index` is below the array's length, and its elements are descriptions; names and ids are C strings that live as long, or null.
        unsafe {
            let topic = *topics.add(index);
            if sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(topic)).is_error() {
                continue;
            }
            let uuid = sys::rd_kafka_TopicDescription_topic_id(topic);
            if uuid.is_null()
                || (sys::rd_kafka_Uuid_most_significant_bits(uuid) == 0
                    && sys::rd_kafka_Uuid_least_significant_bits(uuid) == 0)
            {
                continue;
            }
            let id = sys::rd_kafka_Uuid_base64str(uuid);
            let name = sys::rd_kafka_TopicDescription_name(topic);
            if !id.is_null() && !name.is_null() {
                let text = |c: *const c_char| CStr::from_ptr(c).to_string_lossy().into_owned();
                ids.insert(text(name), text(id));
            }
        }
    }
    ids
}
