-- The part of a trace that a step goes on with (https://www.w3.org/TR/trace-context/).
ALTER TABLE steps ADD COLUMN traceparent TEXT;
