-- An endpoint's failed webhooks, without going through all that it was told.
CREATE INDEX deliveries_by_endpoint_and_status ON deliveries (endpoint_id, status, id);
