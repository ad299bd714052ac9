// pg-boss, as its own documentation shows it: node pg_boss.mjs fill|consume ORDER (see order.py).
// It lies where BENCHMARK_NODE says, since Node looks for modules beside the script alone.

import { openSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'

const { PgBoss } = createRequire(`${process.env.BENCHMARK_NODE}/package.json`)('pg-boss')
const [verb, text] = process.argv.slice(2)
const order = JSON.parse(text)
const portion = 1000

const boss = new PgBoss(order.url)
boss.on('error', console.error)
await boss.start()

if (verb === 'fill') {
  await boss.createQueue(order.queue)
  for (let first = 0; first < order.count; first += portion) {
    const length = Math.min(portion, order.count - first)
    await boss.insert(order.queue, Array.from({ length }, (_, place) => ({ data: { number: first + place } })))
  }
  await boss.stop({ graceful: false })
} else {
  const descriptor = openSync(order.record_path, 'a', 0o600)
  const record = Buffer.alloc(24)
  await boss.work(order.queue, order.settings, async jobs => {
    for (const job of jobs) {
      record.writeBigInt64LE(BigInt(job.data.number), 0)
      record.writeBigInt64LE(process.hrtime.bigint(), 16)
      writeSync(descriptor, record)
    }
  })
}
