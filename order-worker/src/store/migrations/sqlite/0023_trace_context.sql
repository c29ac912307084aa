-- The trace context of the request that caused an event (https://www.w3.org/TR/trace-context/); earlier events have
-- none.
ALTER TABLE events ADD COLUMN traceparent TEXT;
ALTER TABLE events ADD COLUMN tracestate TEXT;

ALTER TABLE steps ADD COLUMN tracestate TEXT;
