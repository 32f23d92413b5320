/** The topics that the page reads and writes, spelt once: as `schemas/icebus/schemas/topics.py` has them. */

const ID = "[A-Za-z0-9_-]{1,64}";

export type Ids = Readonly<Record<string, string>>;

/** A family of topics below the farm's root; levels in braces are ids. */
export interface Family {
  readonly template: string;
  readonly qos: 0 | 1;
  /** Whether the last message stands for the present state, so that older ones need not be read. */
  readonly state: boolean;
  readonly pattern: RegExp;
}

function family(template: string, options: { qos?: 0 | 1; state?: boolean } = {}): Family {
  const pattern = template.replaceAll(/\{(\w+)\}/g, (_, level: string) => `(?<${level}>${ID})`);
  return {
    template,
    qos: options.qos ?? 1,
    state: options.state ?? false,
    pattern: new RegExp(`^${pattern}$`),
  };
}

export const CONTROL_STATE = family("control/{control}/state", { state: true });
export const CONTROL_HEARTBEAT = family("control/heartbeat", { state: true });
export const CONTROL_HISTORY = family("control/history", { state: true });
export const CONTROL_THROUGHPUT = family("control/throughput", { state: true });
export const CLAIM = family("control/claim/{serial}", { state: true });
export const RESERVATION = family("control/reservation/{reservation}", { state: true });
export const WORKER_STATE = family("worker/{worker}/state", { state: true });
export const WORKER_HEARTBEAT = family("worker/{worker}/heartbeat", { qos: 0, state: true });
export const DEVICE = family("worker/{worker}/device/{serial}", { state: true });
export const WORKER_EVENT = family("worker/{worker}/event");
export const PRINCIPALS = family("broker/principals", { state: true });
export const EVENT = family(
  "user/{user}/reservation/{reservation}/event/{sender}/{serial}/{event}",
);
export const EXPERIMENT = family("user/{user}/client/{client}/experiment/{reservation}", {
  state: true,
});
export const LOG = family("log/{role}/{id}/{level}", { qos: 0 });
export const LOG_RECENT = family("log/{role}/{id}", { state: true });
export const DEVICE_LOG = family("user/{user}/reservation/{reservation}/log/{sender}/{serial}", {
  state: true,
});
export const REPLY = family("user/{user}/client/{client}/reply/{sender}");
export const OPERATION = family("control/call/{user}/{operation}");
export const ADMIN = family("admin/{user}/{operation}");
export const BROKER_OPERATION = family("broker/call/{user}/{operation}");
export const CALL = family("worker/{worker}/call/{user}/{method}");

/** What the page subscribes to, in the order in which a topic is looked up: most frequent first. */
export const READ: readonly Family[] = [
  DEVICE,
  WORKER_HEARTBEAT,
  CONTROL_HEARTBEAT,
  EVENT,
  WORKER_EVENT,
  RESERVATION,
  CONTROL_HISTORY,
  CONTROL_THROUGHPUT,
  WORKER_STATE,
  CONTROL_STATE,
  CLAIM,
  EXPERIMENT,
  LOG,
  LOG_RECENT,
  DEVICE_LOG,
  PRINCIPALS,
];

const WHOLE_ID = new RegExp(`^${ID}$`);

/** Whether a text may stand in a level of a topic. */
export function isId(text: string): boolean {
  return WHOLE_ID.test(text);
}

/** The topic, or the filter where levels are left out, relative to the root. */
export function spell({ template }: Family, ids: Ids = {}): string {
  return template.replaceAll(/\{(\w+)\}/g, (_, level: string) => {
    const id = ids[level];
    if (id === undefined) return "+";
    if (!isId(id)) throw new RangeError(`${level} ${JSON.stringify(id)} can't stand in a topic`);
    return id;
  });
}

/** The ids in the levels of a topic, or null when it is not of this family. */
export function parse({ pattern }: Family, topic: string): Ids | null {
  const match = pattern.exec(topic);
  return match === null ? null : (match.groups ?? {});
}

/** The family of a topic and the ids in its levels, or null when it is none that the page reads. */
export function readTopic(topic: string): { family: Family; ids: Ids } | null {
  for (const candidate of READ) {
    const ids = parse(candidate, topic);
    if (ids !== null) return { family: candidate, ids };
  }
  return null;
}
