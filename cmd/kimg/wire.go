package main

// actions are the real ones.
var actions = table{}
