// Around every request: errors become problems, answers are counted, and no answer is stored or sniffed.

import Hummingbird
import Ledger
import Logging
import Metrics
import Postgres

struct ProblemMiddleware<Context: RequestContext>: RouterMiddleware {
    let logger: Logger

    func handle(
        _ request: Request, context: Context, next: (Request, Context) async throws -> Response
    ) async throws -> Response {
        let start = ContinuousClock.now
        var response: Response
        do {
            response = try await next(request, context)
        } catch let problem as Problem {
            response = problem.response
        } catch let error as HTTPError {
            response =
                Problem(status: error.status, title: error.status.reasonPhrase, detail: "No such resource.")
                .response
        } catch let reason as ShardUnreadable {
            logger.warning("a shard cannot be read", metadata: ["reason": "\(reason)"])
            response = Problem.unavailable("\(reason); ask again in a moment.").response
        } catch is UnknownIncarnation {
            response = Problem.foreignPosition.response
        } catch let error as PostgresError {
            logger.warning("a query failed", metadata: ["reason": "\(error)"])
            response = Problem.unavailable("The database does not answer.").response
        } catch {
            logger.error("a request failed", metadata: ["reason": "\(type(of: error))"])
            response =
                Problem(status: .internalServerError, title: "Internal error", detail: "The log says more.")
                .response
        }
        response.headers[.cacheControl] = "no-store"
        response.headers[.xContentTypeOptions] = "nosniff"
        // The route and not the path: paths hold ids, and labels are bounded.
        let route = context.endpointPath ?? "none"
        Counter(
            label: "zegel_api_requests",
            dimensions: [("route", route), ("status", "\(response.status.code)")]
        ).increment()
        Timer(label: "zegel_api_request", dimensions: [("route", route)])
            .recordNanoseconds(Int64((ContinuousClock.now - start) / .nanoseconds(1)))
        return response
    }
}
