-- What wrk --latency leaves out: the 99.9th percentile, and errors by kind. It has no hook for requests or answers,
-- so it costs nothing while the load runs.
function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    'figures {"answers": %d, "us": %d, "p50": %d, "p99": %d, "p999": %d, "refused": %d, "failed": %d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
