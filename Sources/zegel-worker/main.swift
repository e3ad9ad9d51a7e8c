// The worker: judges recipient hosts and delivers.

import Delivery
import Observability
import ServiceLifecycle
import Settings

await NodeMain.run(
    "zegel-worker",
    validate: { settings in _ = try DeliveryWorkerSettings(settings) },
    services: { context in
        [
            DeliveryWorker(
                try DeliveryWorkerSettings(context.settings), readiness: context.readiness,
                logger: context.logger)
        ]
    })
