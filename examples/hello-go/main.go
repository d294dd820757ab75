// Hello-go shows what a program is given: its arguments and its environment. It is an ordinary Go program.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Println("Hello from Go!")
	fmt.Println("argc:", len(os.Args))
	for i, arg := range os.Args {
		fmt.Printf("argv[%d]: %s\n", i, arg)
	}
	for _, env := range os.Environ() {
		fmt.Println("env:", env)
	}
}
