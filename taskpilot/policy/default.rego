# The default policy of TaskPilot, and the interface that every policy file has.
#
# A policy is one package, `taskpilot.tools`, with up to three rules, each asked once before a tool runs:
#
#   allow             a boolean; only exactly `true` allows
#   deny              a set of reasons (strings); any member denies, whatever else is said
#   require_approval  a set of reasons (strings); any member parks the call until a person approves it
#
# The files of a project (`policy.files` in the settings) are one policy of their own, evaluated apart from this one: neither
# can redefine a rule of the other, and both may use the same names. A denial of either wins, then an approval that either
# requires, and then one `allow` of either is enough. What nobody allows is denied. With `policy.default = false` this file
# is not asked. An error while a policy is evaluated, or a rule of another type, is a denial (`policy_error`).
#
# The input, after it was checked (types, at most 64 kB, at most 16 levels, no NUL, no integer beyond 64 bits):
#
#   input.tool        the tool's name
#   input.arguments   its arguments, an object, as the tool will get them
#   input.folded      the same object with every text made plain for comparing: compatibility forms (full width, bold),
#                     accents and invisible characters resolved, control characters as spaces, case folded
#   input.agent       planner, reviewer, executor, another agent's name, or `job`: the job's own code called
#   input.job         the job's name
#   input.run_id      the run's id
#   input.job_tools   the names of the tools that the job lists
#
# Letters of other scripts that merely look alike are not resolved: a list of forbidden words is a seat belt, not a wall.
# `http.send` is refused when a file is read: the embedded engine would leave it undefined without a word.

package taskpilot.tools

built_in := {"create_task", "notify", "delete_task"}

# Tasks: filed by the planner and the executor, and by the job's own code.

may_file_tasks if input.agent in {"planner", "executor", "job"}

allow if {
	input.tool == "create_task"
	may_file_tasks
	valid_title
	valid_priority
}

deny contains "the title must be text of 1 to 500 characters" if {
	input.tool == "create_task"
	not valid_title
}

deny contains "the priority must be high, medium or low" if {
	input.tool == "create_task"
	not valid_priority
}

deny contains "the description must be text of at most 10,000 characters" if {
	input.tool == "create_task"
	not valid_description
}

require_approval contains "a high-priority task whose title says sensitive needs a person's approval" if {
	input.tool == "create_task"
	may_file_tasks
	input.arguments.priority == "high"
	contains(input.folded.title, "sensitive")
}

valid_title if {
	is_string(input.arguments.title)
	count(trim_space(input.arguments.title)) <= 500
	count(trim_space(input.folded.title)) >= 1
}

valid_priority if input.arguments.priority in {"high", "medium", "low"}

valid_description if not "description" in object.keys(input.arguments)

valid_description if {
	is_string(input.arguments.description)
	count(input.arguments.description) <= 10000
}

# Messages: sent by the executor, and by the job's own code.

allow if {
	input.tool == "notify"
	input.agent in {"executor", "job"}
	is_string(input.arguments.channel)
	is_string(input.arguments.message)
}

deny contains "the message says delete" if {
	input.tool == "notify"
	some text in [input.arguments.message, input.folded.message]
	regex.match(`(^|[^\pL\pN])delete($|[^\pL\pN])`, lower(text))
}

# Nothing is deleted, whoever asks.

deny contains "delete_task is never allowed" if input.tool == "delete_task"

# The job's own tools, where the job lists them. A reviewer judges and touches nothing.

allow if {
	input.tool in input.job_tools
	not input.tool in built_in
	input.agent != "reviewer"
}
