/** What messages must look like to be read. Unknown fields and unknown states pass: farms grow. */

import * as v from "valibot";

const text = v.string();
const timestamp = v.pipe(
  v.string(),
  v.transform((at) => Date.parse(at)),
  v.number("not a time"),
);
const natural = v.pipe(v.number(), v.minValue(0));
const orNull = <T extends v.GenericSchema>(schema: T) => v.optional(v.nullable(schema), null);
const orEmpty = v.optional(text, "");

export const ControlState = v.object({
  state: text,
  session: text,
  version: orEmpty,
  leading: v.optional(v.boolean(), false),
});
export type ControlState = v.InferOutput<typeof ControlState>;

export const Heartbeat = v.object({
  epoch: text,
  sequence: natural,
  interval: v.pipe(v.number(), v.gtValue(0)),
});
export type Heartbeat = v.InferOutput<typeof Heartbeat>;

export const WorkerState = v.object({
  state: text,
  session: text,
  version: orEmpty,
  serials: v.optional(v.array(text), []),
  draining: orNull(text),
});
export type WorkerState = v.InferOutput<typeof WorkerState>;

export const WorkerHeartbeat = v.object({
  session: text,
  load: v.optional(
    v.object({
      devices: v.optional(natural, 0),
      serving: v.optional(natural, 0),
      queued: v.optional(natural, 0),
      results: orNull(natural),
      failures: orNull(natural),
    }),
    {},
  ),
});
export type WorkerHeartbeat = v.InferOutput<typeof WorkerHeartbeat>;

export const Device = v.object({
  serial: text,
  state: text,
  since: timestamp,
  reason: orEmpty,
  reservation: orNull(text),
  user: orNull(text),
  kind: orNull(text),
  chip: orEmpty,
  firmware: orEmpty,
  firmware_version: orEmpty,
  port: orEmpty,
  virtual: v.optional(v.boolean(), false),
  progress: orNull(v.number()),
  labels: v.optional(v.record(text, text), {}),
  retry: orNull(timestamp),
});
export type Device = v.InferOutput<typeof Device>;

export const DeviceEvent = v.object({
  event: text,
  serial: text,
  at: timestamp,
  state: text,
  reason: orEmpty,
});
export type DeviceEvent = v.InferOutput<typeof DeviceEvent>;

export const Claim = v.object({
  serial: text,
  worker: text,
  claimed_by: v.array(text),
  since: timestamp,
  remedy: orEmpty,
});
export type Claim = v.InferOutput<typeof Claim>;

export const Reservation = v.object({
  id: text,
  revision: v.optional(natural, 0),
  user: text,
  kind: text,
  state: text,
  devices: v.array(v.object({ serial: text, worker: text, state: text, reason: orEmpty })),
  created: timestamp,
  until: timestamp,
  client: orNull(text),
  reason: orNull(text),
  priority: v.optional(v.number(), 0),
  replace: v.optional(v.boolean(), false),
  queue: orNull(v.object({ position: natural, reason: orEmpty, estimate: orNull(timestamp) })),
  offer: orNull(v.object({ to: text, until: timestamp })),
});
export type Reservation = v.InferOutput<typeof Reservation>;

export const HistoryEntry = v.object({
  number: natural,
  at: timestamp,
  event: text,
  actor: text,
  reservation: orNull(text),
  user: orNull(text),
  serial: orNull(text),
  worker: orNull(text),
  reason: orEmpty,
});
export type HistoryEntry = v.InferOutput<typeof HistoryEntry>;

export const History = v.object({ entries: v.array(HistoryEntry) });
export type History = v.InferOutput<typeof History>;

const perMinute = v.array(v.nullable(natural));

/** What ended in each minute since `began`, oldest first; null where nobody counted. */
export const Throughput = v.object({ began: timestamp, results: perMinute, failures: perMinute });
export type Throughput = v.InferOutput<typeof Throughput>;

const anything = v.record(text, v.unknown());

export const FarmEvent = v.object({
  sequence: v.optional(natural, 0),
  at: timestamp,
  data: v.optional(anything, {}),
});
export type FarmEvent = v.InferOutput<typeof FarmEvent>;

/** What results and failures of every measuring kind have in common. */
export const Outcome = v.looseObject({
  serial: orEmpty,
  evaluation: text,
  batch: text,
  bitstream: text,
  at: timestamp,
});
export type Outcome = v.InferOutput<typeof Outcome>;

const Extreme = v.object({ value: v.number(), bitstream: text, serial: text, at: timestamp });

/** How an experiment stands, as the client that runs it tells now and then. */
export const ToldExperiment = v.object({
  reservation: text,
  kind: orEmpty,
  began: timestamp,
  at: timestamp,
  runs: natural,
  run: v.object({
    began: timestamp,
    ended: orNull(timestamp),
    results: natural,
    failures: natural,
    total: orNull(natural),
  }),
  results: natural,
  failures: natural,
  failed: v.optional(v.record(text, natural), {}),
  numbers: v.optional(
    v.array(
      v.object({
        name: text,
        lowest: Extreme,
        highest: Extreme,
        boards: v.record(
          text,
          v.object({
            count: natural,
            mean: v.number(),
            deviation: orNull(v.number()),
            lowest: v.number(),
            highest: v.number(),
          }),
        ),
        histogram: v.object({ lowest: v.number(), width: v.number(), counts: v.array(natural) }),
        spans: v.array(
          v.object({
            at: timestamp,
            count: natural,
            mean: v.number(),
            lowest: v.number(),
            highest: v.number(),
          }),
        ),
        span: v.number(),
      }),
    ),
    [],
  ),
});
export type ToldExperiment = v.InferOutput<typeof ToldExperiment>;

export const FarmErrorInfo = v.object({
  code: text,
  message: text,
  details: v.optional(anything, {}),
});

export const Reply = v.object({
  id: text,
  ok: v.optional(v.unknown()),
  error: v.optional(v.nullable(FarmErrorInfo)),
});
export type Reply = v.InferOutput<typeof Reply>;

export const Account = v.object({
  user: text,
  role: text,
  invited: v.optional(v.boolean(), false),
  expires: orNull(timestamp),
});
export type Account = v.InferOutput<typeof Account>;

export const QueueStatus = v.object({
  queued: natural,
  measuring: orNull(text),
  unacknowledged: v.optional(natural, 0),
});
export type QueueStatus = v.InferOutput<typeof QueueStatus>;

export const CallResults = v.object({
  results: v.optional(v.record(text, v.unknown()), {}),
  errors: v.optional(v.record(text, FarmErrorInfo), {}),
});

export const Principals = v.object({
  principals: v.array(v.object({ id: text, role: text, groups: v.optional(v.array(text), []) })),
});

export const LogRecord = v.object({
  id: text,
  at: timestamp,
  level: text,
  logger: orEmpty,
  message: text,
  fields: v.optional(v.record(v.string(), v.unknown()), {}),
  traceback: v.optional(v.array(v.string()), []),
});
export const RecentLog = v.object({ lines: v.array(LogRecord) });
export type LogRecord = v.InferOutput<typeof LogRecord>;

export const FarmDocument = v.object({
  farm: text,
  root: text,
  version: orEmpty,
  mqtt: v.optional(text, "mqtt"),
  signIn: orNull(v.object({ path: text, command: orEmpty })),
});
export type FarmDocument = v.InferOutput<typeof FarmDocument>;

export const Credentials = v.object({
  user: text,
  password: text,
  wall: v.optional(v.boolean(), false),
});
export type Credentials = v.InferOutput<typeof Credentials>;

const decoder = new TextDecoder("utf-8", { fatal: true });

/** The message in a payload. Throws where it is something else, with a reason for people. */
export function decode<T extends v.GenericSchema>(
  schema: T,
  payload: Uint8Array,
): v.InferOutput<T> {
  return check(schema, JSON.parse(decoder.decode(payload)));
}

/** A value that has been read from JSON, as its schema has it. Throws with a reason for people. */
export function check<T extends v.GenericSchema>(schema: T, value: unknown): v.InferOutput<T> {
  const parsed = v.safeParse(schema, value);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  throw new TypeError(`${v.getDotPath(issue) ?? "the message"}: ${issue.message}`);
}
