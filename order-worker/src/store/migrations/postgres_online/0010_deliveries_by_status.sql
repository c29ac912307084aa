CREATE INDEX CONCURRENTLY deliveries_by_endpoint_and_status ON deliveries (endpoint_id, status, id);
