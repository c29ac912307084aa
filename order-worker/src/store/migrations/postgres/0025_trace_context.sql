-- The trace context of the request that caused an event (https://www.w3.org/TR/trace-context/); earlier events have
-- none.
ALTER TABLE events ADD COLUMN traceparent TEXT, ADD COLUMN tracestate TEXT;

-- A worker of an earlier version that reschedules a step leaves the `tracestate` of the step's last request.
ALTER TABLE steps ADD COLUMN tracestate TEXT;
