// Package tap is what the Go programs share: the runner's environment, the tenants' URLs, assertions and TAP.
package tap

import (
	"fmt"
	"net/url"
	"os"
	"reflect"
	"runtime"
	"strings"
)

// Check is one line of CHECKLIST.md.
type Check struct {
	Name string
	Run  func()
}

// Skip is what a check panics with when the driver cannot do this on any server.
type Skip string

var (
	Host     = os.Getenv("TENANTRY_HOST")
	Port     = os.Getenv("TENANTRY_PORT")
	CA       = os.Getenv("TENANTRY_CA")
	user     = os.Getenv("TENANTRY_USER")
	password = os.Getenv("TENANTRY_PASSWORD")
	database = os.Getenv("TENANTRY_DATABASE")
)

// URL is a tenant's, named by `way`: "user", "options", "database", "database-at" or, for the host's name alone, "".
// `more` are pairs of parameters.
func URL(host, tenant, way string, more ...string) string {
	login, name, query := user, database, url.Values{}
	switch way {
	case "user":
		login += "." + tenant
	case "options":
		query.Set("options", "-c app.tenant="+tenant)
	case "database":
		name = tenant
	case "database-at":
		name += "@" + tenant
	}
	for i := 0; i < len(more); i += 2 {
		query.Set(more[i], more[i+1])
	}
	query.Set("connect_timeout", "10")
	address := url.URL{Scheme: "postgres", User: url.UserPassword(login, password), Host: host + ":" + Port, Path: "/" + name}
	address.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20")
	return address.String()
}

// Asleep answers a row once a session is at it: a cancel that comes before its statement cancels nothing.
const Asleep = "select 'asleep' from pg_stat_activity where state = 'active' and query = 'select pg_sleep(10)'"

// Equal ends the check unless they are the same.
func Equal(want, got interface{}) {
	if !reflect.DeepEqual(want, got) {
		panic(fmt.Sprintf("%v instead of %v", got, want))
	}
}

// Must ends the check if there is an error.
func Must(err error) {
	if err != nil {
		panic(err.Error())
	}
}

// Overlap says who (0 or 1) is in a transaction in round i, and whether it asks once more after it: servers change
// hands in every order.
func Overlap(i int) (first int, again bool) {
	return i % 2, i%3 == 0
}

// Together runs them all at once, and panics once all have ended if one of them did.
func Together(acts ...func()) {
	problems := make(chan string)
	for _, act := range acts {
		act := act
		go func() {
			problem, _ := run(Check{Run: act})
			problems <- problem
		}()
	}
	first := ""
	for range acts {
		if problem := <-problems; first == "" {
			first = problem
		}
	}
	if first != "" {
		panic(first)
	}
}

// Run runs the checks, prints TAP and exits.
func Run(checks []Check) {
	fmt.Printf("TAP version 13\n1..%d\n", len(checks))
	failed := false
	for i, check := range checks {
		problem, skip := run(check)
		switch {
		case problem != "":
			failed = true
			fmt.Printf("not ok %d - %s: %s\n", i+1, check.Name, problem)
		case skip != "":
			fmt.Printf("ok %d - %s # SKIP %s\n", i+1, check.Name, skip)
		default:
			fmt.Printf("ok %d - %s\n", i+1, check.Name)
		}
	}
	if failed {
		os.Exit(1)
	}
}

func run(check Check) (problem, skip string) {
	if os.Getenv("TENANTRY_DIRECT") == "1" && strings.HasPrefix(check.Name, "connect-") {
		return "", "bare PostgreSQL knows no tenants"
	}
	defer func() {
		switch failure := recover().(type) {
		case nil:
		case Skip:
			skip = string(failure)
		default:
			text := strings.Join(strings.Fields(fmt.Sprint(failure)), " ")
			problem = fmt.Sprintf("%.500s (line %d)", text, line())
		}
	}()
	check.Run()
	return "", ""
}

// Where in the program it broke.
func line() int {
	callers := make([]uintptr, 50)
	frames := runtime.CallersFrames(callers[:runtime.Callers(0, callers)])
	for {
		frame, more := frames.Next()
		if strings.HasSuffix(frame.File, "/test.go") {
			return frame.Line
		}
		if !more {
			return 0
		}
	}
}
