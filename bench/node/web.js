// Keep a task and enqueue it, and show it; with ?wait= as soon as BullMQ says that its job has ended.
import express from 'express'
import { Job, QueueEvents } from 'bullmq'
import { connection, connect, queue, Task } from './task.js'

const events = new QueueEvents('tasks', { connection })
const app = express()
app.use(express.json())

app.post('/tasks', async (request, response) => {
  const { type, payload = {} } = request.body
  const task = await Task.create({ type, payload })
  await queue.add(type, { id: task.id }, { jobId: task.id, removeOnComplete: true, removeOnFail: true })
  response.status(201).location(`/tasks/${task.id}`).json(shown(task))
})

app.get('/tasks/:id', async (request, response) => {
  const seconds = Number(request.query.wait ?? 0)
  if (seconds > 0) await ended(request.params.id, seconds * 1000)
  const task = await Task.findById(request.params.id)
  if (task === null) return response.status(404).json({})
  response.json(shown(task))
})

async function ended(id, milliseconds) {
  const job = await Job.fromId(queue, id)
  // A job that is removed when it completes may be gone by now: then there is nothing to wait for.
  await job?.waitUntilFinished(events, milliseconds).catch(() => {})
}

function shown(task) {
  return { id: task.id, type: task.type, status: task.status, result: task.result }
}

await connect()
await events.waitUntilReady()
app.listen(Number(process.env.PORT), '127.0.0.1')
