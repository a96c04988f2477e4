//! Data for a pipeline: generation from annotated Avro schemas, and ingestion into Kafka or file logs.
